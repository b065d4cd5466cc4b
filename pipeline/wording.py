"""How numbers of any size read, scores in tables and sentences and round values on an axis; and the words of params."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

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


def perfect(scores: Mapping[str, Any]) -> str:
    """What can be said in place of an interval where every test image is answered rightly; empty: one is not.

    No resample differs from another then, so an interval says nothing, but how many images there are does: that n
    answers are right by chance though a share p would be wrong has the probability (1 - p)^n, which is 5 % here.

    Args:
        scores: of the test split, as a record has them.
    """
    accuracy, images = scores.get("accuracy"), scores.get("images", 0)
    if not images or not isinstance(accuracy, Mapping) or accuracy.get("value") != 1:
        return ""
    share = 100 * (1 - 0.05 ** (1 / images))
    return f"perfect; of other images like these, expect fewer than {share:.1f} % to be answered wrongly"


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
