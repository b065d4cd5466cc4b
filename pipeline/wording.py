"""How numbers of any size read: scores in tables and sentences, and round values on an axis."""

from __future__ import annotations

import math

UNITS = ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))
"""From which value on an axis is written in which unit, and its sign."""


def written(value: float, digits: int = 4, sign: str = "") -> str:
    """A score as people read it: `0.9731`, `12.405`, `52,310`: five digits that count, or all before the point.

    Args:
        value: of any size.
        digits: behind the point, at most.
        sign: "+", if it is to be written before what is not negative.
    """
    places = min(digits, max(0, 4 - int(math.log10(abs(value))))) if 10 <= abs(value) < 1e300 else digits
    return f"{value:{sign}z,.{places}f}" if not abs(value) >= 1e15 else f"{value:{sign}.{digits}e}"


def stepped(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """About `count` round numbers from low to high, and how they are written on an axis: `0.25`, `20k`, `1.5M`."""
    rough = (high - low) / count or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    largest = max(abs(low), abs(high))
    unit, sign = next(((unit, sign) for least, unit, sign in UNITS if largest >= least), (1.0, ""))
    decimals = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [
        (index * step, f"{index * step / unit:.{decimals}f}{sign}" if index or not sign else "0")
        for index in range(first, last + 1)
    ]
