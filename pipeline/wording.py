"""How numbers of any size read, scores in tables and sentences and round values on an axis; and the words of params."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

UNITS = ((1e12, math.inf, ""), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))
"""From which value on an axis is written in which unit, and its sign; beyond them by powers of ten."""
SMALL, LARGE = 1e-4, 1e15
"""Sizes below and from which a number is written by its power of ten."""
SHORT = 1e6
"""Size from which a number of which few digits count is written by its power of ten."""
MOST = 12
"""Decimals."""
ALIKE = "no interval: every resample of these images gives the same"
TOO_FEW = "no interval: these images are too few for one"
LONGEST_TICK = 7
"""Characters of a value on an axis, if there is a way to write it so."""
LEAST_TICK = 1e-3
"""Values on an axis that are all below it are written by powers of ten."""


def written(value: float, digits: int = 4, sign: str = "") -> str:
    """A score as people read it: `0.9731`, `12.405`, `52,310`: five digits that count, or all before the point.

    What is not 0 never reads as 0, nor what falls short of 1 as 1: `3.2e-7`, `0.00043`, `0.99996`.

    Args:
        value: of any size.
        digits: behind the point, where these suffice for that.
        sign: "+", if it is to be written before what is not negative.
    """
    if abs(value) >= LARGE or 0 < abs(value) < SMALL:
        return by_power(value, digits, sign)
    return f"{value:{sign}z,.{_places(value, digits)}f}"


def by_power(value: float, digits: int = 3, sign: str = "") -> str:
    """With so many digits that count, and the power of ten of what is very large or small: `1e30`, `3.21e-7`."""
    number, e, power = f"{value:{sign}.{digits - 1}e}".partition("e")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}e{int(power)}" if e else number


def short(value: float, digits: int = 4) -> str:
    """A number that is no score, with so many digits that count: `0.01`, `0.03455`, `52,310`, `1.053e29`, `2e-5`."""
    said = f"{value:.{digits}g}"
    if "e" not in said:
        return said
    return f"{value:,.0f}" if 1 <= abs(value) < SHORT else by_power(value, digits)


def between(low: float | None, high: float | None, digits: int = 4, sign: str = "") -> str:
    """The ends of an interval: `0.9651 to 0.9812`, with digits that tell them apart: `0.99910 to 1`; or nothing.

    Args:
        low: None, where there is no interval; as large as `high` where it is a point, of which it says nothing.
        high: likewise.
        digits: as `written` takes them; more of them where the interval is narrow.
        sign: likewise.
    """
    if low is None or high is None or not low < high:
        return ""
    return " to ".join(_ends(low, high, digits, sign))


def scored(value: float | None, low: float | None, high: float | None, digits: int = 4) -> str:
    """A score, with its interval if it has one that is no point: `0.9731 (0.965 to 0.981)`; a dash if it is undefined.

    Args:
        value: of the score.
        low: see `between`.
        high: likewise.
        digits: of the value, and of the interval one less.
    """
    if value is None:
        return "-"
    ends = between(low, high, digits - 1)
    return f"{written(value, digits)} ({ends})" if ends else written(value, digits)


def spread_said(scores: Mapping[str, Any], name: str, digits: int = 4) -> str:
    """What can be said of how sure a score is: `95 % interval 0.9651 to 0.9812`, or of a point what it is worth.

    Args:
        scores: of the test split, as a record has them.
        name: which of them.
        digits: as `written` takes them.
    """
    found = scores[name]
    is_point = not between(found["low"], found["high"])
    return (is_point and perfect(scores)) or interval_said(found["low"], found["high"], digits=digits)


def images_said(scores: Mapping[str, Any]) -> str:
    """On what a model was scored: `342 test images`, or `108 test images in 18 units` where some belong together.

    Args:
        scores: as a record has them; one from before units were counted has none.
    """
    images, units = scores.get("images", 0), scores.get("units", 0)
    together = f" in {units:,} unit{'s'[: units > 1]}" if 0 < units < images else ""
    return f"{images:,} test images{together}"


def chance_said(p: float) -> str:
    """A p-value: `p = 0.031`, `p < 0.001`."""
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}"


def difference_said(value: float, low: float, high: float, confidence: float) -> str:
    """A difference with its interval: `+0.0120 (95 % interval -0.0040 to +0.0281)`, or that it has none."""
    return f"{written(value, sign='+')} ({interval_said(low, high, confidence, sign='+')})"


def interval_said(
    low: float | None, high: float | None, confidence: float = 0.95, digits: int = 4, sign: str = ""
) -> str:
    """`95 % interval 0.9651 to 0.9812`, or why there is none."""
    if low is not None and math.isnan(low):
        return TOO_FEW
    ends = between(low, high, digits, sign)
    return f"{100 * confidence:g} % interval {ends}" if ends else ALIKE


def _places(value: float, digits: int) -> int:
    """Decimals of a number that is neither very large nor very small."""
    size = abs(value)
    if size >= 10:
        return min(digits, max(0, 4 - int(math.log10(size))))
    if 0 < size < 1:  # two digits that count, and as many as keep it from being rounded to 1
        digits = max(digits, 1 - math.floor(math.log10(size)), 1 + math.floor(-math.log10(2 * (1 - size))))
    return min(digits, MOST)


def _ends(low: float, high: float, digits: int, sign: str) -> list[str]:
    """Each of them, with two digits at least of how far they are apart; an end at 0 or 1 is exact, and short."""
    size = max(abs(low), abs(high))
    if size >= LARGE or size < SMALL:
        pairs = ([by_power(end, count, sign) for end in (low, high)] for count in range(max(2, digits - 1), 17))
        return next((pair for pair in pairs if pair[0] != pair[1]), [repr(low), repr(high)])
    apart = 1 - math.floor(math.log10(max(high - low, 10.0**-MOST)))
    own = [_places(end, digits) for end in (low, high) if abs(end) >= SMALL]
    return [_end(end, min(MOST, max(apart, *own)), sign) for end in (low, high)]


def _end(end: float, places: int, sign: str) -> str:
    if end in (0, 1) and not sign:
        return f"{end:.0f}"
    return by_power(end, 2, sign) if 0 < abs(end) < SMALL else f"{end:{sign}z,.{places}f}"


def perfect(scores: Mapping[str, Any]) -> str:
    """What can be said in place of an interval where every test image is answered rightly; empty: one is not.

    No resample differs from another then, so an interval says nothing, but how many units of images there are does:
    that n are right by chance though a share p would be wrong has the probability (1 - p)^n, which is 5 % here.

    Args:
        scores: of the test split, as a record has them.
    """
    accuracy, units = scores.get("accuracy"), scores.get("units") or scores.get("images", 0)
    if not units or not isinstance(accuracy, Mapping) or accuracy.get("value") != 1:
        return ""
    share = 100 * (1 - 0.05 ** (1 / units))
    return f"perfect; of other images like these, expect fewer than {share:.1f} % to be answered wrongly"


def stepped(low: float, high: float, count: int = 5) -> list[tuple[float, str]]:
    """About `count` round numbers from low to high, and how an axis has them: `0.25`, `20k`, `1.5M`, `2e-7`."""
    rough = (high - low) / count or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    values = [index * step for index in range(first, last + 1)]
    return list(zip(values, _marked(values, step), strict=True))


def _marked(values: Sequence[float], step: float) -> list[str]:
    """How the values on an axis that are so far apart are written: all in one way."""
    largest = max(map(abs, values), default=0.0)
    unit, sign = next(((unit, sign) for least, unit, sign in UNITS if largest >= least), (1.0, ""))
    count = max(1, 1 + math.floor(math.log10(largest or 1) + 1e-9) - math.floor(math.log10(step) + 1e-9))
    powers = [by_power(value, count) if value else "0" for value in values]
    if unit == math.inf or 0 < largest < LEAST_TICK:
        return powers
    ways = [_in_units(values, step, unit, sign), _in_units(values, step, 1.0, ""), powers]
    lengths = [max(map(len, way), default=0) for way in ways]
    return next((way for way, length in zip(ways, lengths, strict=True) if length <= LONGEST_TICK), ways[0])


def _in_units(values: Sequence[float], step: float, unit: float, sign: str) -> list[str]:
    decimals = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    return [f"{value / unit:.{decimals}f}{sign}" if value or not sign else "0" for value in values]


def counted(low: float, high: float) -> list[tuple[float, str]]:
    """As `stepped`, of what is counted: whole numbers alone."""
    if high - low < 5:
        return [(number, f"{number}") for number in range(math.ceil(low), math.floor(high) + 1)]
    return stepped(low, high)


def members_said(ensemble: Mapping[str, Any]) -> str:
    """Options of an ensemble as `3 members, by folds, answers averaged`; empty where there is one training alone."""
    if ensemble.get("members", 1) == 1:
        return ""
    joined = "weights" if ensemble.get("join") == "soup" else "answers"
    return f"{ensemble['members']} members, by {ensemble.get('by', 'seeds')}, {joined} averaged"


def sides_said(sides: Sequence[float]) -> str:
    """When pictures grow, by their side in each epoch: `16 px a side from epoch 1, 24 from epoch 3`; or nothing."""
    starts = [
        f"{side:.0f}{'' if number > 1 else ' px a side'} from epoch {number}"
        for number, (before, side) in enumerate(pairwise([None, *sides]), 1)
        if side is not None and side != before
    ]
    return ", ".join(starts) if len(starts) > 1 else ""
