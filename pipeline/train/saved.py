"""What a checkpoint holds: the state of a training, how far it is, and what computed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.train.machine import Arithmetic


@dataclass
class Progress:
    """How far a training is, and what it knows so far."""

    epoch: int = 0
    step: int = 0
    """Steps done within the epoch."""
    best_epoch: int = -1
    best_score: float = float("-inf")
    """Larger is better, whatever the metric."""
    best_loss: float = float("inf")
    """Validation loss; decides between equal scores."""
    losses: list[float] = field(default_factory=list)
    """Of this epoch's steps so far."""
    worths: list[float] = field(default_factory=list)
    """The validation score after each epoch, turned so that larger is better."""
    first_norms: dict[str, float] = field(default_factory=dict)
    """Of the gradient of the training's first step, by layer: see `pipeline.train.norms`. Steps whose gradient is no
    number, which float16 skips, do not count."""
    norms: list[dict[str, float]] = field(default_factory=list)
    """Of this epoch's steps so far that were measured, but for that one."""
    warned: bool = False
    """Whether it was said that the gradient vanishes or explodes."""
    doubted: bool = False
    """Whether it was said that a validation loss is no number."""
    rollbacks: list[list[int]] = field(default_factory=list)
    """Epoch and step, 0-based, of each time that it diverged and went back."""
    view_losses: torch.Tensor | None = None
    """What each training view last cost, float64 [V]; None: no order has asked for it."""
    moves: list[str] = field(default_factory=list)
    """Where it was taken up elsewhere than it was begun, and what differs there."""

    @property
    def rate_scale(self) -> float:
        """What the learning rate is multiplied by: halved each time that it went back."""
        return float(0.5 ** len(self.rollbacks))


@dataclass(frozen=True)
class Saved:
    """A checkpoint, read."""

    state: dict[str, Any]
    progress: Progress
    arithmetic: Arithmetic
    environment: dict[str, str]
    """See `pipeline.train.environment`."""


def opened(path: Path) -> Saved:
    """The checkpoint in a file; torch raises several kinds of errors where it is damaged."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    progress, arithmetic = Progress(**content["progress"]), Arithmetic(**content["arithmetic"])
    return Saved(content["state"], progress, arithmetic, dict(content["environment"]))
