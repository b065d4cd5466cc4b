"""Upright axes of curves: of differences, or of factors, where values span powers of ten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from dashboard.bars import Scale
from pipeline.wording import short, stepped

MOST_TICKS = 7
DECADES = 3.0
"""Powers of ten that losses may span before like factors are drawn alike: less would be flat on the axis."""


class Factors(NamedTuple):
    """A scale from values low..high, above 0, to pixels start..end, on which like factors are alike."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value lies, held within the ends."""
        return Scale(math.log(self.low), math.log(self.high), self.start, self.end).at(math.log(max(value, self.low)))

    def ticks(self) -> list[tuple[float, str]]:
        """Powers of ten within, or, where these are few, 1, 2 and 5 times them, each with what it is called."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for factors in ((1,), (1, 2, 5)):
            values = [factor * 10.0**power for power in powers for factor in factors]
            inside = [value for value in values if self.low <= value <= self.high]
            if len(inside) > 2:
                return [(value, short(value)) for value in inside[:: -(-len(inside) // MOST_TICKS)]]
        return stepped(self.low, self.high)


def spans_decades(values: Sequence[float]) -> bool:
    """Whether values, all above 0, span so many powers of ten that a scale of differences would hide most of them."""
    known = [value for value in values if math.isfinite(value)]
    return bool(known) and min(known) > 0 and math.log10(max(known)) - math.log10(min(known)) > DECADES


def upright(low: float, high: float, ends: tuple[float, float], factors: bool) -> Scale | Factors:
    """A scale with a little room around the values low..high.

    Args:
        low: at least `charts.SMALLEST`, if like factors are alike.
        high: at most `charts.LARGEST`.
        ends: pixels.
        factors: whether like factors are alike.
    """
    if factors:
        room = (high / low) ** 0.06 if high > low else 1.1
        return Factors(low / room, high * room, *ends)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    floor = max(0.0, low - room) if low >= 0 else low - room
    return Scale(floor, high + room, *ends)
