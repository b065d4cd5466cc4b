"""Sides that take turns in one call, A B, B A, ..., so that a machine that becomes busy troubles all of them."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping


def taking_turns(sides: Mapping[str, Callable[[], float]], pairs: int) -> dict[str, list[float]]:
    """What each side gives, `pairs` times; every second round goes backwards."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(pairs):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(sides[name]())
    return found


def ratios(found: Mapping[str, list[float]], over: str, under: str) -> str:
    """The ratio of two sides, round by round: its median, and the smallest and the largest."""
    each = [mine / theirs for mine, theirs in zip(found[over], found[under], strict=True)]
    return f"{statistics.median(each):.3g} ({min(each):.3g} to {max(each):.3g})"


def machine() -> str:
    """Cores and load, to stand above every table."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
