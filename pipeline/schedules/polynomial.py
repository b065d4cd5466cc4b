"""A polynomial, from the full learning rate down to the final one, after a warm-up; of power 1 a straight line.

Source: Liu, Rabinovich, Berg. ParseNet: Looking Wider to See Better, 2015, and DeepLab after it (`poly`), with a
power of 0.9.
"""

from __future__ import annotations

from pydantic import Field

from pipeline.schedules._warmup import after_warmup
from pipeline.training import Course, ScheduleConfig


class Config(ScheduleConfig):
    """The final rate would be that of the step after the last, so no step of the training is wasted on a rate of 0."""

    warmup_epochs: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Epochs, or a part of one, in which the rate climbs evenly to its full height; at most half of all."""
    power: float = Field(1.0, gt=0, le=10)
    """Of what is left of the training: above 1 the rate falls fast at first, below 1 at the end."""
    final: float = Field(0.0, ge=0, le=1)
    """What is left of the rate at the end, as a share of the base rate."""

    def factor(self, at: Course) -> float:
        """See `ScheduleConfig.factor`."""
        return after_warmup(
            at, self.warmup_epochs, lambda done: self.final + (1 - self.final) * (1 - done) ** self.power
        )
