"""Steps: the rate stays as it is for long, and drops at once, some times, after a warm-up.

Source: He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition, 2015, section 4.2, where it drops after half
and after three quarters of the training.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.schedules._warmup import climb, warmup
from pipeline.training import Course, ScheduleConfig


class Config(ScheduleConfig):
    """Where it drops is said in shares of the training, so that another number of epochs needs no other options."""

    warmup_epochs: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Epochs, or a part of one, in which the rate climbs evenly to its full height; at most half of those before the
    first drop."""
    drops: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)
    """The shares of the training after which it drops."""
    leaves: float = Field(0.1, gt=0, lt=1)
    """What each drop leaves of the rate, as a share of what it was."""

    @property
    def falls_at(self) -> float:
        """See `ScheduleConfig.falls_at`: the first drop."""
        return min(self.drops, default=1.0)

    def factor(self, at: Course) -> float:
        """See `ScheduleConfig.factor`."""
        drops = [max(1, round(share * at.steps_per_epoch * at.epochs)) for share in self.drops]
        passed = sum(at.step >= drop for drop in drops)
        return warmup(at.step, climb(at, self.warmup_epochs, min(drops, default=None))) * self.leaves**passed
