"""A constant learning rate, after a warm-up."""

from __future__ import annotations

from pydantic import Field

from pipeline.schedules._warmup import climb, warmup
from pipeline.training import Course, ScheduleConfig


class Config(ScheduleConfig):
    """The base rate, to the end."""

    warmup_epochs: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Epochs, or a part of one, in which the rate climbs evenly to its full height; at most half of all."""

    def factor(self, at: Course) -> float:
        """See `ScheduleConfig.factor`."""
        return warmup(at.step, climb(at, self.warmup_epochs))
