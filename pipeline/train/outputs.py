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
from pipeline.journal import Row, journals, read, standing
from pipeline.params import TrainParams, described
from pipeline.policy import Policy
from pipeline.train.assembly import Training
from pipeline.train.saved import Progress

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


def write_notes(root: Path, home: Path, score: str, facts: Mapping[str, Any]) -> None:
    """`steps.csv`, `gradients.csv` and `epochs.csv` for `dvc plots`, and `training.json` with the facts.

    Of an ensemble the tables say whose each row is, 1-based; steps and epochs are those of that member alone.

    Args:
        root: of the notes.
        home: of the training, with its journal or those of its members.
        score: the metric that decides.
        facts: see `facts_of`.
    """
    rows = {member: standing(read(journal, 0)[0]) for member, journal in journals(home).items()}
    metrics = dict.fromkeys(metric for mine in rows.values() for row in mine for metric in row.values)
    sides = ["side"] if "epoch/side" in metrics else []
    columns = ["train_loss", "val_loss", f"val_{score}", *sides]
    _write(root / "epochs.csv", rows, "epoch", {f"epoch/{name}": name for name in columns})
    norms = [metric for metric in metrics if metric.startswith("gradient_norm/")]
    _write(root / "gradients.csv", rows, "gradient", {metric: metric.partition("/")[2] for metric in norms})
    noted = {"train/loss": "loss", "train/learning_rate": "learning_rate"}
    steps = _write(root / "steps.csv", rows, "step", noted)
    write_json(root / "training.json", {**facts, "steps": steps})


def facts_of(training: Training) -> dict[str, Any]:
    """What is to be known of one training: how it was computed, how long, which epoch was kept, what went otherwise."""
    machine, progress, parts = training.machine, training.progress, training.machine.accumulation
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
        **({"accumulation": parts} if parts != training.params.train.accumulation else {}),
        **(_went_back(progress) if progress.rollbacks else {}),
    }


def _write(path: Path, rows: Mapping[int, Sequence[Row]], series: str, columns: Mapping[str, str]) -> int:
    """A table of a series, its columns named by the metrics; how many rows it has. Nothing where one is missing.

    Args:
        path: of the table.
        rows: of each member, 1-based; or of the only training, as 0.
        series: of the rows that the table holds.
        columns: by metric.
    """
    counter, several = "epoch" if series == "epoch" else "step", 0 not in rows
    lines = [
        [*([member] if several else []), row.step, *(row.values.get(metric, "") for metric in columns)]
        for member, mine in rows.items()
        for row in mine
        if row.series == series
    ]
    write_rows(path, [*(["member"] if several else []), counter, *columns.values()], lines)
    return len(lines)


def _size(network: nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def _went_back(progress: Progress) -> dict[str, Any]:
    places = [{"epoch": epoch + 1, "step": step + 1} for epoch, step in progress.rollbacks]
    return {"diverged": places, "rate_scale": progress.rate_scale}
