"""Outlines as COCO writes them: polygons, and run lengths, plain or packed into text.

Source: pycocotools, common/maskApi.c, `rleFrString`; https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import math
from typing import Any

from pipeline.annotations import Corners, Polygon, Runs
from pipeline.formats._values import numbers, shown, whole

MAX_SIDE = 30_000
MAX_PIXELS = 200_000_000
"""Of a mask, as of a picture."""
DIGITS = 7
"""Characters of one packed length, of 5 bits each: 35 bits."""


def outline_of(segmentation: Any) -> tuple[Polygon, ...] | Runs | None:
    """What a `segmentation` draws; None if it is empty or missing.

    Raises:
        ValueError: it cannot be understood; the text says why.
    """
    if segmentation is None or segmentation == [] or segmentation == {}:
        return None
    if isinstance(segmentation, list):
        return tuple(_polygon(one, place) for place, one in enumerate(segmentation, start=1))
    if isinstance(segmentation, dict):
        return _runs(segmentation)
    raise ValueError(f"its segmentation is {shown(segmentation)}; expected polygons or runs")


def extent(polygons: tuple[Polygon, ...]) -> Corners:
    """The smallest box around polygons."""
    across = [x for polygon in polygons for x in polygon[::2]]
    down = [y for polygon in polygons for y in polygon[1::2]]
    if not all(map(math.isfinite, across + down)):
        return math.nan, math.nan, math.nan, math.nan
    return min(across), min(down), max(across), max(down)


def _polygon(values: Any, place: int) -> Polygon:
    if not isinstance(values, list):
        raise ValueError(f"its polygon {place} is {shown(values)}; expected a list of x, y, x, y, ...")
    corners = numbers(values)
    if corners is None or len(corners) < 6 or len(corners) % 2:
        what = f"what are no numbers: {shown(values)}" if corners is None else f"{len(corners)} numbers"
        raise ValueError(f"its polygon {place} holds {what}; expected x, y of three corners or more")
    return corners


def _runs(said: dict[str, Any]) -> Runs:
    size, counts = said.get("size"), said.get("counts")
    sides = [whole(side) for side in size] if isinstance(size, list) else []
    if len(sides) != 2 or not all(side and 0 < side <= MAX_SIDE for side in sides):
        raise ValueError(f"its runs are of the size {shown(size)}; expected height and width")
    height, width = (side or 0 for side in sides)
    if height * width > MAX_PIXELS:
        raise ValueError(f"its runs are of {height * width:,} pixels; the limit is {MAX_PIXELS:,}")
    if isinstance(counts, str):
        lengths = unpacked(counts)
    elif isinstance(counts, list):
        lengths = [-1 if (length := whole(count)) is None else length for count in counts]
    else:
        raise ValueError(f"its runs are {shown(counts)}; expected lengths, or text")
    if any(length < 0 for length in lengths) or sum(lengths) != height * width:
        raise ValueError(f"its runs do not fill {width} x {height} pixels")
    return Runs(height, width, tuple(lengths))


def unpacked(text: str) -> list[int]:
    """Run lengths out of COCO's compressed text: 5 bits a character, the lowest first, from the third on as differences
    to the last but one.

    Raises:
        ValueError: it is no such text.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift >= 5 * DIGITS:
            raise ValueError("its runs are no compressed text of COCO's")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("its runs end within a number")
    return lengths
