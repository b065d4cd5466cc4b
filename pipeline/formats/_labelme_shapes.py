"""The shapes of a labelme file as objects: polygons, rectangles, circles and masks.

Source: https://github.com/wkentaro/labelme, labelme/utils/shape.py: what each shape covers (no code of theirs is used).
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from pipeline.annotations import Corners, Flaw, FlawKind, Polygon, Runs, Thing
from pipeline.formats._coco_outlines import extent
from pipeline.formats._values import Id, Twice, class_name, identity, number, shown

CORNERS = 64
"""Of the polygon that stands for a circle."""
AREALESS = ("point", "points", "line", "linestrip")
MASK_BYTES = 4_000_000
MASK_SIDE = 4096
"""Of a mask within a shape, which is decoded here, and not by a process that may die of it."""

Point = tuple[float, float]


class Shape(NamedTuple):
    """One shape."""

    thing: Thing
    group: Id | None
    """Shapes of one class with one number are one object."""


def things(file: str, entries: list[Any], size: tuple[int, int] | None) -> tuple[list[Thing], list[Flaw]]:
    """The objects that shapes make, and what is wrong with others.

    Args:
        file: its name.
        entries: the shapes.
        size: width and height of the picture, if the file says them: a mask is placed in it.
    """
    found: list[Thing] = []
    flaws: list[Flaw] = []
    groups: dict[tuple[str, Id], int] = {}
    for position, entry in enumerate(entries, start=1):
        name = class_name(entry.get("label")) if isinstance(entry, dict) else None
        place = f"shape {position}" + (f" ({name})" if name else "")
        try:
            thing, group = _shape(entry, name, place, size)
        except ValueError as error:
            flaws.append(Flaw(FlawKind.UNREADABLE, file, place, str(error)))
            continue
        first = groups.get((thing.name, group)) if group is not None else None
        if first is not None and not isinstance(thing.outline, Runs):
            found[first] = _together(found[first], thing)
            continue
        if group is not None and not isinstance(thing.outline, Runs):
            groups[thing.name, group] = len(found)
        found.append(thing)
    return found, flaws


def only_rectangles(entries: list[Any]) -> bool:
    """Whether no shape draws more than a box."""
    return all(isinstance(one, dict) and one.get("shape_type") in ("rectangle", *AREALESS) for one in entries)


def _together(first: Thing, second: Thing) -> Thing:
    assert not isinstance(first.outline, Runs) and not isinstance(second.outline, Runs)
    outline = (*(first.outline or ()), *(second.outline or ()))
    return replace(first, outline=outline, box=extent(outline))


def _shape(entry: Any, name: str | None, place: str, size: tuple[int, int] | None) -> Shape:
    if not isinstance(entry, dict) or isinstance(entry, Twice):
        what = f"the key {shown(entry.key)} stands twice" if isinstance(entry, Twice) else shown(entry)
        raise ValueError(f"{what}; expected an object with a label and points")
    if name is None:
        raise ValueError(f"its label is {shown(entry.get('label'))}; expected the name of a class")
    kind = entry.get("shape_type") or "polygon"
    if kind in AREALESS:
        raise ValueError(f"a {kind} has no area")
    group = entry.get("group_id")
    if group is not None and (group := identity(group)) is None:
        raise ValueError(f"its group_id is {shown(entry.get('group_id'))}; expected a number")
    points = _points(entry.get("points"))
    if kind == "mask":
        box, runs = _mask(entry, points, size)
        return Shape(Thing(name, box, place, outline=runs), group)
    polygon = _polygon(kind, points)
    return Shape(Thing(name, extent((polygon,)), place, outline=(polygon,)), group)


def _points(said: Any) -> list[Point]:
    points = []
    for point in said if isinstance(said, list) else []:
        values = [number(value) for value in point] if isinstance(point, list) and len(point) == 2 else []
        if len(values) != 2 or values[0] is None or values[1] is None:
            raise ValueError(f"one of its points is {shown(point)}; expected x and y")
        points.append((values[0], values[1]))
    if not points:
        raise ValueError(f"its points are {shown(said)}; expected a list of x and y")
    return points


def _polygon(kind: Any, points: list[Point]) -> Polygon:
    """The corners of a shape."""
    if kind == "polygon" and len(points) > 2:
        return tuple(value for point in points for value in point)
    if kind == "rectangle" and len(points) == 2:
        (x1, y1), (x2, y2) = points
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)  # drawn from any corner
        return x1, y1, x2, y1, x2, y2, x1, y2
    if kind == "rectangle" and len(points) == 4:
        return tuple(value for point in points for value in point)
    if kind == "circle" and len(points) == 2:
        (x, y), rim = points
        radius = math.dist((x, y), rim)
        angles = [2 * math.pi * corner / CORNERS for corner in range(CORNERS)]
        return tuple(value for a in angles for value in (x + radius * math.cos(a), y + radius * math.sin(a)))
    raise ValueError(f"{len(points)} points of a {shown(kind)}; expected polygon, rectangle, circle or mask with theirs")


def _mask(entry: Mapping[str, Any], points: list[Point], size: tuple[int, int] | None) -> tuple[Corners, Runs]:
    """The pixels of a mask, which lies with its upper left corner at the first point."""
    from pipeline.images import ImageError, decode
    from pipeline.masks import box_of, runs_of

    if size is None:
        raise ValueError("a mask, and the file says no imageWidth and imageHeight")
    data = decoded(entry.get("mask"), MASK_BYTES)
    try:
        _check_side(data)
        inside = decode(data, 1)[:, :, 0] > 0
    except ImageError as error:
        raise ValueError(f"its mask is no picture that can be read: {error}") from None
    width, height = size
    left, top = (int(value) if math.isfinite(value) else -1 for value in points[0])
    down, across = inside.shape
    if left < 0 or top < 0 or left + across > width or top + down > height:
        raise ValueError(f"its mask of {across} x {down} at {left},{top} reaches beyond {width} x {height} pixels")
    import numpy as np

    if max(size) > MASK_SIDE * 4:
        raise ValueError("")
    whole = np.zeros((height, width), bool)
    whole[top : top + down, left : left + across] = inside
    return box_of(whole) or (left, top, left, top), Runs(height, width, tuple(runs_of(whole)))
