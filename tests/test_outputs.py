"""What `train` leaves beside weights: how large the network is and how much of it learnt, of one and of several."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from engine_project import begun, inside, params_of, prepare

from pipeline.bundle import Bundle
from pipeline.dataset import Dataset
from pipeline.params import Params
from pipeline.policy import Policy
from pipeline.train import stage

__all__ = ["inside"]


def trained(params: Params) -> dict:
    stage.run(params, Dataset.open(), Policy.open(), Path("out/model"), Path("out/training"))
    torch.set_deterministic_debug_mode("default")
    return json.loads(Path("out/training/training.json").read_text())


def size_of_exported() -> int:
    """Of the weights that the bundle holds."""
    network = Bundle.open(Path("out/model"))._program("cpu")
    return sum(weights.numel() for weights in network.parameters())


def test_the_size_of_a_network_is_that_of_all_its_weights_whatever_learns(inside: Path) -> None:
    frozen = ("layers.frozen_epochs=2", "train.epochs=2", begun(inside))
    facts = trained(prepare(inside, *frozen))
    info = Bundle.open(Path("out/model")).info
    assert facts["parameters"] == info.parameters == size_of_exported()
    assert 0 < info.learnt == facts["learnt"] < facts["parameters"] / 10
    assert info.ensemble == {}
    all_of_them = trained(params_of(inside, "train.epochs=1"))
    assert all_of_them["learnt"] == all_of_them["parameters"] == facts["parameters"]


def test_a_bundle_of_several_trainings_says_so(inside: Path) -> None:
    facts = trained(prepare(inside, "ensemble={members: 2, by: folds}", "train.epochs=2", "train.patience=1"))
    info = Bundle.open(Path("out/model")).info
    assert info.ensemble == {"members": 2, "by": "folds", "join": "average"}
    assert info.parameters == info.learnt == facts["parameters"] == facts["learnt"] == size_of_exported()
    assert "best_epoch" not in facts  # each member has one of its own
    with Path("out/training/epochs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, one in enumerate(facts["members"], start=1):
        mine = [row for row in rows if row["member"] == str(number)]
        assert [int(row["epoch"]) for row in mine] == list(range(one["epochs"]))
        best = max(mine, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
        assert int(best["epoch"]) == one["best_epoch"]
