"""Half a cosine wave, from the full learning rate down to the final one, after a warm-up.

Source: Loshchilov, Hutter. SGDR: Stochastic Gradient Descent with Warm Restarts, 2016, equation 5, without restarts.
"""

from __future__ import annotations

import math

from pydantic import Field

from pipeline.schedules._warmup import after_warmup
from pipeline.training import Course, ScheduleConfig


class Config(ScheduleConfig):
    """The final rate would be that of the step after the last, so no step of the training is wasted on a rate of 0."""

    warmup_epochs: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Epochs, or a part of one, in which the rate climbs evenly to its full height; at most half of all."""
    final: float = Field(0.0, ge=0, le=1)
    """What is left of the rate at the end, as a share of the base rate."""

    def factor(self, at: Course) -> float:
        """See `ScheduleConfig.factor`."""
        return after_warmup(
            at, self.warmup_epochs, lambda done: self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2
        )
