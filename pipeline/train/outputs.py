"""What `train` leaves: the bundle of the best epoch, and the course of the training as tables.

No times among them, so that a rerun writes the same bytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import torch

from pipeline.bundle import BundleInfo, write
from pipeline.dataset import Dataset
from pipeline.files import replacing_folder, write_json, write_text
from pipeline.journal import read
from pipeline.params import TrainParams, described
from pipeline.policy import Policy
from pipeline.train.checkpoint import Checkpoints, Progress
from pipeline.train.machine import Machine

NOTES = Path("out/training")


def write_bundle(root: Path, params: TrainParams, dataset: Dataset, policy: Policy, machine: Machine) -> None:
    """The network as it stands, with all that it needs to answer; `params.task` is tuned to it."""
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
        parameters=machine.parameters(),
        dataset=dataset.info.digest,
    )
    with replacing_folder(root) as folder:
        write(folder, info, machine.learner.network)


def write_notes(root: Path, checkpoints: Checkpoints, progress: Progress, machine: Machine, score: str) -> None:
    """`steps.csv` and `epochs.csv` for `dvc plots`, and `training.json` with the facts."""
    rows, _ = read(checkpoints.journal, 0)
    steps = [
        (row.step, row.values["train/loss"], row.values["train/learning_rate"]) for row in rows if row.series == "step"
    ]
    columns = ["train_loss", "val_loss", f"val_{score}"]
    epochs = [(row.step, *(row.values[f"epoch/{name}"] for name in columns)) for row in rows if row.series == "epoch"]
    write_text(root / "steps.csv", _csv(["step", "loss", "learning_rate"], steps))
    write_text(root / "epochs.csv", _csv(["epoch", *columns], epochs))
    write_json(
        root / "training.json",
        {
            **machine.arithmetic._asdict(),
            "device": machine.device.type,
            "threads": torch.get_num_threads(),
            "parameters": machine.parameters(),
            "epochs": progress.epoch,
            "best_epoch": progress.best_epoch,
            "steps": len(steps),
        },
    )


def _csv(header: list[str], rows: Sequence[tuple[float, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
