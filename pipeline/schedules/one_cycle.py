"""One cycle: the rate climbs, and falls for longer to nearly nothing; the momentum does the opposite.

Source: Smith, Topin. Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates, 2017; both
ways are halves of cosine waves, as in fastai and torch, whose numbers the defaults are.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from pipeline.training import Course, ScheduleConfig

RISE = 0.3


class Config(ScheduleConfig):
    """The base rate is the highest; it may be several times what a constant rate could be."""

    warmup_epochs: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Epochs, or a part of one, in which the rate climbs, at most half of all; null: three tenths of all."""
    first: float = Field(0.04, gt=0, le=1)
    """The rate that the climb begins with, as a share of the base rate."""
    last: float = Field(0.000004, gt=0, le=1)
    """The rate that the training ends with, likewise."""
    momenta: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] | None = (0.85, 0.95)
    """The momentum, or first beta, where the rate is highest, and where climb and fall begin and end, whatever
    `optimizer.momentum` or `optimizer.betas` says; null leaves the optimizer's own as it is."""

    def factor(self, at: Course) -> float:
        """See `ScheduleConfig.factor`."""
        climbed, fallen = self._progress(at)
        return _wave(1.0, self.last, fallen) if fallen else _wave(self.first, 1.0, climbed)

    def momentum(self, at: Course) -> float | None:
        """See `ScheduleConfig.momentum`."""
        if self.momenta is None:
            return None
        climbed, fallen = self._progress(at)
        low, high = self.momenta
        return _wave(low, high, fallen) if fallen else _wave(high, low, climbed)

    def _progress(self, at: Course) -> tuple[float, float]:
        """How much of the climb and of the fall lies behind: the crest is its last step, as the end is the other's."""
        steps = at.steps_per_epoch * at.epochs
        rise = RISE * steps if self.warmup_epochs is None else min(self.warmup_epochs * at.steps_per_epoch, steps / 2)
        crest = max(0, round(rise) - 1)
        if at.step <= crest:
            return at.step / crest if crest else 1.0, 0.0
        return 1.0, min(1.0, (at.step - crest) / max(1, steps - 1 - crest))


def _wave(start: float, end: float, share: float) -> float:
    """From `start` to `end`, slowly at both."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
