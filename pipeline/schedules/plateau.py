"""Plateau: the rate drops whenever validation has not become better for some epochs, after a warm-up.

It is torch's ReduceLROnPlateau, a custom older than its papers, but for this: it goes by the score that decides on the
epoch to keep, not by the loss, counts a gain in the score's own unit, and has no least drop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from pipeline.schedules._warmup import climb, warmup
from pipeline.training import Course, ScheduleConfig


class Config(ScheduleConfig):
    """A function of the scores so far, without a memory: a training that goes on has the rates that it would have had.

    An epoch whose score is undefined, as that of no objects, counts for nothing. `train.patience`, which ends a
    training, must be longer than the patience here by two epochs or more, or no drop comes in time.
    """

    warmup_epochs: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Epochs, or a part of one, in which the rate climbs evenly to its full height; at most half of all."""
    patience: int = Field(2, ge=0)
    """Epochs in a row without a better score that are let pass; the next one makes the rate drop."""
    better_by: float = Field(0.0, ge=0, allow_inf_nan=False)
    """How much more than the best so far counts as better."""
    cooldown: int = Field(0, ge=0)
    """Epochs after a drop that are let pass whatever they bring."""
    leaves: float = Field(0.1, gt=0, lt=1)
    """What each drop leaves of the rate, as a share of what it was."""
    final: float = Field(0.001, ge=0, le=1)
    """What is left of the rate at least, as a share of the base rate."""

    def idle(self, epochs: int, patience: int) -> str:
        """See `ScheduleConfig.idle`."""
        bad = self.patience + 1  # epochs without a better score before the rate drops, for the one after them
        if epochs < bad + 2:
            return (
                f"would drop the rate in epoch {bad + 2} at the earliest, as schedule.patience is {self.patience}, and "
                f"there are {epochs}; set train.epochs to more, or take another schedule"
            )
        if 0 < patience <= bad:
            return (
                f"would drop the rate after {bad} epochs without a better score, but train.patience, {patience}, ends "
                f"the training by then; set that to {bad + 1} or more, or to 0"
            )
        return ""

    def factor(self, at: Course) -> float:
        """See `ScheduleConfig.factor`."""
        height = max(self.final, self.leaves ** self._drops(at.worths))
        return warmup(at.step, climb(at, self.warmup_epochs)) * height

    def _drops(self, worths: Sequence[float]) -> int:
        """How often the rate has dropped after epochs of these worths."""
        best, spent, resting, drops = -math.inf, 0, 0, 0
        for worth in worths:
            if worth == -math.inf:
                continue
            better = worth > best + self.better_by
            best, spent = (worth, 0) if better else (best, spent + 1)
            if resting:
                resting, spent = resting - 1, 0
            if spent > self.patience:
                resting, spent, drops = self.cooldown, 0, drops + 1
        return drops
