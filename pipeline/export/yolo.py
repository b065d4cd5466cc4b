"""YOLO text: a label file per picture, with centre and size of each box in shares of the picture.

images/train/0f3a9c41d2e8b765.jpg   labels/train/0f3a9c41d2e8b765.txt   data.yaml

Shares of a width, halved and multiplied again, seldom give the corners back to the last bit: boxes are read again to
within a billionth of a pixel, and the digest of what is read is another one. Crowds have no place in this format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pipeline.contracts import SPLITS, Target
from pipeline.export._contours import contour
from pipeline.export.writer import Box, Row, Writer
from pipeline.masks import of_runs
from pipeline.source import quoted

STEPS = 3
"""Neighbouring numbers that are tried, on either side."""
CROWDS = "{count:,} crowds are left out: YOLO would take each for an object"
SEVERAL = "{count:,} outlines are left out: YOLO holds one polygon an object, and its box is that of the polygon"
INEXACT = "{count:,} boxes are read again not to the last bit: YOLO writes shares of the picture"


class Yolo(Writer):
    """Boxes; where an object has one polygon, that; of its pixels, the polygon that is filled to them."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.OBJECTS, Target.INSTANCES})
    outlines: ClassVar[bool] = True

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        super().__init__(folder, classes)
        self._splits: set[str] = set()

    def add(self, row: Row) -> None:
        assert row.objects is not None
        lines = []
        for box in row.objects:
            if box.crowd:
                self.notes.add(CROWDS)
                continue
            values, exact = self._shape(box, row.width, row.height)
            if not exact:
                self.notes.add(INEXACT)
            lines.append(" ".join([str(box.label), *map(repr, values)]))
        self.write(f"images/{row.split}/{row.name}", row.data)
        self.write(f"labels/{row.split}/{row.stem}.txt", "".join(f"{line}\n" for line in lines).encode())
        self._splits.add(row.split)

    def finish(self) -> Mapping[str, str]:
        lines = [f"{split}: images/{split}" for split in SPLITS if split in self._splits]
        lines += ["names:", *(f"  {number}: {quoted(name)}" for number, name in enumerate(self.classes))]
        self.write("data.yaml", "".join(f"{line}\n" for line in lines).encode())
        return {}

    def _shape(self, box: Box, width: int, height: int) -> tuple[list[float], bool]:
        """The values of a row, and whether they are read again exactly."""
        if box.runs is not None:
            left, top, right, bottom = map(int, (box.x1, box.y1, box.x2, box.y2))
            corners = contour(of_runs(box.runs, width, height)[top:bottom, left:right])
            # A corner that is missed by a billionth of a pixel is still far from the middle of any.
            return [value for x, y in corners for value in ((x + left) / width, (y + top) / height)], True
        if box.outline is not None:
            polygon = list(box.outline[0]) if len(box.outline) == 1 else []
            if polygon and _around(polygon) == (box.x1, box.y1, box.x2, box.y2):
                shares = [share(value, height if place % 2 else width) for place, value in enumerate(polygon)]
                return [one for one, _ in shares], all(exact for _, exact in shares)
            self.notes.add(SEVERAL)
        x, across, exact_x = centred(box.x1, box.x2, width)
        y, down, exact_y = centred(box.y1, box.y2, height)
        return [x, y, across, down], exact_x and exact_y


def share(value: float, length: int) -> tuple[float, bool]:
    """A place as a share of a length, and whether it is found again by multiplying."""
    for tried in _near(value / length):
        if tried * length == value:
            return tried, True
    return value / length, False


def centred(start: float, end: float, length: int) -> tuple[float, float, bool]:
    """Centre and size of a box along one axis, as shares, and whether its ends are found again."""
    middle, size = (start + end) / 2 / length, (end - start) / length
    for centre in _near(middle):
        for extent in _near(size):
            if (centre - extent / 2) * length == start and (centre + extent / 2) * length == end:
                return centre, extent, True
    return middle, size, False


def _near(value: float) -> Iterator[float]:
    """A number and its neighbours, the nearest first."""
    yield value
    lower = higher = value
    for _ in range(STEPS):
        lower, higher = math.nextafter(lower, -math.inf), math.nextafter(higher, math.inf)
        yield from (lower, higher)


def _around(polygon: Sequence[float]) -> tuple[float, float, float, float]:
    xs, ys = polygon[::2], polygon[1::2]
    return min(xs), min(ys), max(xs), max(ys)


FORMAT = Yolo
