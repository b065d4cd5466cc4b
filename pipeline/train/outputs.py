"""What `train` leaves: the bundle of the best epoch, and the course of the training as tables.

No times among them, so that a rerun writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.bundle import BundleInfo, write
from pipeline.dataset import Dataset
from pipeline.files import replacing_folder, write_json, write_rows
from pipeline.journal import Row, read, standing
from pipeline.params import TrainParams, described
from pipeline.policy import Policy
from pipeline.train.assembly import Training
from pipeline.train.checkpoint import Progress

NOTES = Path("out/training")


def write_bundle(
    root: Path, params: TrainParams, dataset: Dataset, policy: Policy, network: nn.Module, parameters: int
) -> None:
    """A network with all that it needs to answer; `params.task` is tuned to it.

    Args:
        root: of the bundle.
        params: of the run.
        dataset: that it learnt from.
        policy: by which pictures were prepared.
        network: as it stands.
        parameters: weights of it that training moved.
    """
    parts = described(params)
    info = BundleInfo(
        task=parts["task"],
        classes=dataset.info.classes,
        channels=policy.channels,
        frame=policy.frame,
        packed=policy.plain,
        size=policy.size,
        mean=policy.mean,
        deviation=policy.deviation,
        model=parts["model"],
        parameters=parameters,
        dataset=dataset.info.digest,
    )
    with replacing_folder(root) as folder:
        write(folder, info, network)


def write_notes(root: Path, journal: Path, score: str, facts: Mapping[str, Any]) -> None:
    """`steps.csv`, `gradients.csv` and `epochs.csv` for `dvc plots`, and `training.json` with the facts.

    Args:
        root: of the notes.
        journal: of the training.
        score: the metric that decides.
        facts: see `facts_of`.
    """
    rows = standing(read(journal, 0)[0])
    steps = [
        (row.step, row.values["train/loss"], row.values["train/learning_rate"]) for row in rows if row.series == "step"
    ]
    columns = ["train_loss", "val_loss", f"val_{score}"]
    epochs = [(row.step, *(row.values[f"epoch/{name}"] for name in columns)) for row in rows if row.series == "epoch"]
    write_rows(root / "steps.csv", ["step", "loss", "learning_rate"], steps)
    _write_gradients(root / "gradients.csv", rows)
    write_rows(root / "epochs.csv", ["epoch", *columns], epochs)
    write_json(root / "training.json", {**facts, "steps": len(steps)})


def facts_of(training: Training) -> dict[str, Any]:
    """What is to be known of one training: how it was computed, how long, which epoch was kept, what went otherwise."""
    machine, progress = training.machine, training.progress
    return {
        **machine.arithmetic._asdict(),
        "device": machine.device.type,
        "threads": torch.get_num_threads(),
        **({"processes": training.ranks.count} if training.ranks.count > 1 else {}),
        "parameters": machine.parameters(),
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        **({"moves": progress.moves} if progress.moves else {}),
        **({"accumulation": progress.accumulation} if progress.accumulation else {}),
        **(_went_back(progress) if progress.rollbacks else {}),
    }


def _write_gradients(path: Path, rows: Sequence[Row]) -> None:
    """The norm of each layer's gradient at the steps that were measured; nothing where a layer rested."""
    measured = [row for row in rows if row.series == "gradient"]
    layers = list(dict.fromkeys(layer for row in measured for layer in row.values))
    write_rows(
        path,
        ["step", *(layer.partition("/")[2] for layer in layers)],
        [(row.step, *(row.values.get(layer, "") for layer in layers)) for row in measured],
    )


def _went_back(progress: Progress) -> dict[str, Any]:
    places = [{"epoch": epoch + 1, "step": step + 1} for epoch, step in progress.rollbacks]
    return {"diverged": places, "rate_scale": progress.rate_scale}
