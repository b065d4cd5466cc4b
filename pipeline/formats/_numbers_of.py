"""Numbers that a source writes beside pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.formats._values import number, number_in, shown

UNKNOWN = frozenset(("", "nan", "na", "n/a", "null", "none", "?", "-"))
"""What people write where they know nothing, in lower case."""
LARGEST = 1e100
"""Squares of larger ones, and their sums, may be infinite."""


def numbers_of(cells: Mapping[str, Any]) -> dict[str, float] | None:
    """Numbers by their names, nan where one is not known; None if none is.

    Args:
        cells: by the names, as they stand there: text, numbers, or nothing.

    Raises:
        ValueError: one is no finite number.
    """
    found: dict[str, float] = {}
    for name, cell in cells.items():
        if cell is None or str(cell).strip().lower() in UNKNOWN:
            found[name] = math.nan
            continue
        value = number_in(cell) if isinstance(cell, str) else number(cell)
        if value is not None and LARGEST < abs(value) < math.inf:
            raise ValueError(f"{name} is {shown(cell)}; numbers beyond {LARGEST:g} are not learnt")
        if value is None or not math.isfinite(value):
            raise ValueError(f"{name} is {shown(cell)}; expected a number, or nothing where it is not known")
        found[name] = value
    return None if all(map(math.isnan, found.values())) else found
