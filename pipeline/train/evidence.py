"""What is kept of the step at which a training diverged: in words, in tables, and the pictures that it saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.files import replacing_folder, write_json, write_rows
from pipeline.train.assembly import Training
from pipeline.train.batches import Batch
from pipeline.wording import short

FOLDER = "diverged"
"""In the folder of the training, until that starts over."""


@dataclass(frozen=True)
class Found:
    """Where a training diverged."""

    epoch: int
    """0-based."""
    step: int
    """Within the epoch, 0-based."""
    rate: float
    """The learning rate of that step."""
    loss: float
    what: str
    """What of the step was the first that is no number, in words."""
    norms: dict[str, float]
    """Of its gradient, by layer."""
    norms_before: dict[str, float]
    """Those of the last step before it that were measured; empty: there are none."""
    losses: np.ndarray
    """Of each picture by itself, with the weights before the step, float64 [B]; of features, which none show: empty."""
    folder: Path
    """Where its pictures are."""

    def words(self, steps: int) -> str:
        """Two lines, after whose they are; `steps` has an epoch."""
        bad = int((~np.isfinite(self.losses)).sum())
        alone = f"; by themselves {bad} of them have a loss that is no number" if 0 < bad < len(self.losses) else ""
        return (
            f"diverged in epoch {self.epoch + 1}, step {self.step + 1} of {steps}, at a learning rate of "
            f"{short(self.rate)}: {self.what}.\nIts pictures, with the loss of each, and the norm of the gradient in "
            f"each layer are in {self.folder}{alone}."
        )


def keep(found: Found, training: Training, batch: Batch) -> None:
    """Write a step's pictures, as they were varied and before any were blended, and what is known of it.

    Args:
        found: of the step.
        training: that took it.
        batch: that it saw, of which each process has its part; the first one writes, and the others wait for that.

    Raises:
        UserError: the disk is full.
    """
    assert batch.views is not None
    shown = batch.pictures.cpu().numpy() if len(found.losses) else np.empty(0, np.uint8)  # features are no pictures
    seen = training.ranks.gathered((shown, batch.views))
    training.ranks.found(lambda: _write(found, training, *map(np.concatenate, zip(*seen, strict=True))))


def _write(found: Found, training: Training, pictures: np.ndarray, views: np.ndarray) -> None:
    train, sources = training.train, training.member.train.samples.column("source")
    rows: list[Sequence[object]] = []
    with replacing_folder(found.folder) as folder:
        if len(found.losses):
            for row, (picture, view, loss) in enumerate(zip(pictures, views.tolist(), found.losses, strict=True)):
                file = f"{row:04d}.png"
                Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(folder / file)
                rows.append([file, train.ids[view], f"{loss:g}", sources[int(train.images[view])].as_py()])
        write_rows(folder / "pictures.csv", ["file", "id", "loss", "source"], rows)
        norms = [[layer, _said(norm), found.norms_before.get(layer, "")] for layer, norm in found.norms.items()]
        write_rows(folder / "norms.csv", ["layer", "norm", "norm_before"], norms)
        write_json(
            folder / "step.json",
            {
                "epoch": found.epoch + 1,
                "step": found.step + 1,
                "learning_rate": found.rate,
                "loss": _said(found.loss),
                "what": found.what,
                "gradient_norms": {layer: _said(norm) for layer, norm in found.norms.items()},
            },
        )


def _said(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)
