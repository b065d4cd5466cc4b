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
from pipeline.journal import Row, Turns, read, standing
from pipeline.params import TrainParams, described
from pipeline.policy import Policy
from pipeline.train.assembly import Training
from pipeline.train.checkpoint import Progress

NOTES = Path("out/training")


def write_bundle(
    root: Path, params: TrainParams, dataset: Dataset, policy: Policy, network: nn.Module, learnt: int
) -> BundleInfo:
    """A network with all that it needs to answer; `params.task` is tuned to it. What the bundle says of itself.

    Args:
        root: of the bundle.
        params: of the run.
        dataset: that it learnt from.
        policy: by which pictures were prepared.
        network: as it stands.
        learnt: weights of it that training moved.
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
        parameters=_size(network),
        learnt=learnt,
        ensemble=params.ensemble.model_dump() if params.ensemble.members > 1 else {},
        dataset=dataset.info.digest,
    )
    with replacing_folder(root) as folder:
        write(folder, info, network)
    return info


def write_notes(root: Path, journal: Path, score: str, facts: Mapping[str, Any]) -> None:
    """`steps.csv`, `gradients.csv` and `epochs.csv` for `dvc plots`, and `training.json` with the facts.

    Of an ensemble the tables say whose each row is, 1-based; steps and epochs are counted as MLflow has them: those of
    a member follow those of the one before it.

    Args:
        root: of the notes.
        journal: of the training.
        score: the metric that decides.
        facts: see `facts_of`.
    """
    noted = read(journal, 0)[0]
    rows = standing(noted)
    turns = _turns(noted, rows, facts)
    sides = ["side"] if any("epoch/side" in row.values for row in rows) else []
    columns = ["train_loss", "val_loss", f"val_{score}", *sides]
    steps = _write(
        root / "steps.csv", rows, "step", {"train/loss": "loss", "train/learning_rate": "learning_rate"}, turns
    )
    _write_gradients(root / "gradients.csv", rows, turns)
    _write(root / "epochs.csv", rows, "epoch", {f"epoch/{name}": name for name in columns}, turns)
    write_json(root / "training.json", {**facts, "steps": steps})


def facts_of(training: Training) -> dict[str, Any]:
    """What is to be known of one training: how it was computed, how long, which epoch was kept, what went otherwise."""
    machine, progress = training.machine, training.progress
    return {
        **machine.arithmetic._asdict(),
        "device": machine.device.type,
        "threads": torch.get_num_threads(),
        **({"processes": training.ranks.count} if training.ranks.count > 1 else {}),
        "parameters": _size(machine.learner.network),
        "learnt": machine.parameters(),
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        **({"moves": progress.moves} if progress.moves else {}),
        **({"accumulation": progress.accumulation} if progress.accumulation else {}),
        **(_went_back(progress) if progress.rollbacks else {}),
    }


def _write(path: Path, rows: Sequence[Row], series: str, columns: Mapping[str, str], turns: Turns | None) -> int:
    """A table of a series, its columns named by the metrics; how many rows it has. Nothing where one is missing."""
    mine = [row for row in rows if row.series == series]
    whose = [[turns.member(series, row.step) + 1] if turns else [] for row in mine]
    cells = [[row.values.get(metric, "") for metric in columns] for row in mine]
    counter = "epoch" if series == "epoch" else "step"
    write_rows(
        path,
        [counter, *(["member"] if turns else []), *columns.values()],
        [(row.step, *member, *values) for row, member, values in zip(mine, whose, cells, strict=True)],
    )
    return len(mine)


def _write_gradients(path: Path, rows: Sequence[Row], turns: Turns | None) -> None:
    """The norm of each layer's gradient at the steps that were measured; nothing where a layer rested."""
    metrics = dict.fromkeys(metric for row in rows if row.series == "gradient" for metric in row.values)
    _write(path, rows, "gradient", {metric: metric.partition("/")[2] for metric in metrics}, turns)


def _turns(noted: Sequence[Row], rows: Sequence[Row], facts: Mapping[str, Any]) -> Turns | None:
    """Whose rows of an ensemble's journal are whose; None: there is one training."""
    members = facts.get("members", [])
    if len(members) < 2:
        return None
    epochs = [row.step for row in rows if row.series == "epoch"]
    turns = Turns(epochs[members[0]["epochs"]])  # where the second one begins, as if the first had learnt all of them
    for row in noted:
        turns.take(row)
    return turns


def _size(network: nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def _went_back(progress: Progress) -> dict[str, Any]:
    places = [{"epoch": epoch + 1, "step": step + 1} for epoch, step in progress.rollbacks]
    return {"diverged": places, "rate_scale": progress.rate_scale}
