"""Lines of LIBSVM's text, read one by one."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.annotations import Flaw, FlawKind
from pipeline.formats._values import number_in

LINE = re.compile(r"[+-]?\d+(\.\d*)?(\s+\d+:[+-]?[\d.]+([eE][+-]?\d+)?)+\s*", re.ASCII)
"""What the first line of a file looks like."""
LABEL = re.compile(r"[+-]?\d{1,15}(\.\d{0,15})?", re.ASCII)
MAX_FEATURES = 1024 * 1024


class Sheet(NamedTuple):
    """The lines of one file that hold pictures."""

    name: str
    lines: list[tuple[int, str]]
    """Each with its number."""


class Facts(NamedTuple):
    """What all lines of a source have in common."""

    features: int
    low: float
    high: float


def facts_of(sheets: Sequence[Sheet]) -> tuple[Facts, list[Flaw]]:
    """The largest number of a feature and the range of values, and the lines that cannot be understood."""
    features = 0
    low, high = math.inf, -math.inf
    flaws: list[Flaw] = []
    counts: set[int] = set()
    for sheet in sheets:
        for number, line in sheet.lines:
            try:
                _, places, values = parsed(line)
            except ValueError as error:
                flaws.append(Flaw(FlawKind.UNREADABLE, sheet.name, f"line {number}", str(error)))
                continue
            features = max(features, places[-1])
            low, high = min(low, *values), max(high, *values)
            counts.add(len(places))
    sparse = counts != {features} or (math.isqrt(features - 1) + 1) ** 2 != features if features else False
    return Facts(features, min(low, 0.0) if sparse else low, max(high, 0.0) if sparse else high), flaws


def parsed(line: str) -> tuple[str, list[int], list[float]]:
    """Label, numbers of features, and values.

    Raises:
        ValueError: it is no such line; the text says why.
    """
    label, *pairs = line.partition("#")[0].split()
    if not LABEL.fullmatch(label):
        raise ValueError(f"the label is {label[:40]!r}; expected a number")
    places: list[int] = []
    values: list[float] = []
    last = 0
    for pair in pairs:
        place, colon, value = pair.partition(":")
        if not colon or not place.isdecimal() or len(place) > 9 or not last < int(place):
            raise ValueError(f"found {pair[:40]!r} after feature {last}; expected features from 1 on in rising order")
        last = int(place)
        number = number_in(value)
        if number is None or not math.isfinite(number):
            raise ValueError(f"the value of feature {last} is {value[:40]!r}")
        places.append(last)
        values.append(number)
    if last > MAX_FEATURES:
        raise ValueError(f"feature {last:,}; the limit is {MAX_FEATURES:,}")
    if not places:
        raise ValueError("it has no features")
    return label, places, values
