"""The named points of an object in a COCO file: x, y and whether they are known, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.annotations import Place, Points
from pipeline.formats._values import class_name, numbers

MAX_POINTS = 10_000


def names_of(said: Any) -> tuple[str, ...]:
    """The `keypoints` of a category; none if they are no list of distinct names."""
    names = [class_name(name) for name in said] if isinstance(said, list) and len(said) <= MAX_POINTS else []
    known = [name for name in names if name is not None]
    return tuple(known) if len(set(known)) == len(names) else ()


def points(found: Iterable[tuple[str, dict[str, Any], Sequence[str]]], source: str) -> Points | None:
    """The points of the largest object of a picture that has any.

    A point that is not labelled (0 in its third number) is unknown; one that is hidden is known.

    Args:
        found: where each object stands in the file, what is said of it, and the names of its points; without names
            their numbers are.
        source: the file.
    """
    best: tuple[float, Points] | None = None
    for place, said, names in found:
        values = numbers(said.get("keypoints"))
        count = len(values or ()) // 3
        if values is None or not count or len(values) != 3 * count or (names and len(names) != count):
            continue
        rows = zip(values[::3], values[1::3], values[2::3], strict=True)
        places = [Place(x, y) if visible > 0 else None for x, y, visible in rows]
        if any(places):
            called = names or tuple(map(str, range(count)))
            area = _area(said.get("bbox"))
            if best is None or area > best[0]:
                best = area, Points(dict(zip(called, places, strict=True)), source, place)
    return best and best[1]


def _area(box: Any) -> float:
    sides = numbers(box)
    return sides[2] * sides[3] if sides and len(sides) == 4 else 0.0
