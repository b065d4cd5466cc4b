"""COCO JSON, a file per split; read again exactly, outlines and crowds too, where boxes came as COCO has them.

A corner that is no sum of the other one and a width, both in double precision, is missed by its last bit.

annotations/instances_train.json   train/0f3a9c41d2e8b765.jpg

Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pipeline.contracts import Target
from pipeline.export.writer import Box, Row, Writer

STEPS = 4
"""Neighbouring numbers that are tried for a width."""
INEXACT = "{count:,} boxes are read again not to the last bit: COCO writes widths and heights"


class Coco(Writer):
    """Boxes as x, y, width, height; what they are worth is read back as x, y, x + width, y + height. Pixels as runs."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.OBJECTS, Target.INSTANCES})
    outlines: ClassVar[bool] = True

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        super().__init__(folder, classes)
        self._said: dict[str, dict[str, list[str]]] = {}
        """Of each split the images and annotations, each as JSON: a tenth of the memory that they take as objects."""

    def add(self, row: Row) -> None:
        assert row.objects is not None
        self.write(f"{row.split}/{row.name}", row.data)
        of_split = self._said.setdefault(row.split, {"images": [], "annotations": []})
        number, size = len(of_split["images"]) + 1, (row.width, row.height)
        image = {"id": number, "file_name": row.name, "width": row.width, "height": row.height}
        of_split["images"].append(json.dumps(image))
        for box in row.objects:
            of_split["annotations"].append(json.dumps(self._entry(box, number, len(of_split["annotations"]) + 1, size)))

    def finish(self) -> Mapping[str, str]:
        categories = [json.dumps({"id": number, "name": name}) for number, name in enumerate(self.classes, start=1)]
        for split, said in self._said.items():
            lists = {**said, "categories": categories}
            body = ",\n".join(f'"{key}": [\n{_lines(values)}]' for key, values in lists.items())
            self.write(f"annotations/instances_{split}.json", f"{{\n{body}\n}}\n".encode())
        return {}

    def _entry(self, box: Box, image: int, number: int, size: tuple[int, int]) -> dict[str, Any]:
        (width, exact_x), (height, exact_y) = extent(box.x1, box.x2), extent(box.y1, box.y2)
        if not (exact_x and exact_y):
            self.notes.add(INEXACT)
        entry: dict[str, Any] = {
            "id": number,
            "image_id": image,
            "category_id": box.label + 1,
            "bbox": [box.x1, box.y1, width, height],
            "area": width * height,
            "iscrowd": int(box.crowd),
        }
        if box.outline is not None:
            entry["segmentation"] = [list(polygon) for polygon in box.outline]
            entry["area"] = sum(map(area, box.outline))
        if box.runs is not None:
            entry["area"] = float(sum(box.runs[1::2]))
            entry["segmentation"] = {"size": [size[1], size[0]], "counts": list(box.runs)}
        return entry


def _lines(values: Sequence[str]) -> str:
    return ",\n".join(values) + "\n" if values else ""


def area(polygon: Sequence[float]) -> float:
    """Within x, y, x, y, ...: what COCO's tools sort objects by into small and large."""
    xs, ys = polygon[::2], polygon[1::2]
    pairs = zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True)
    return abs(sum(x * below - right * y for x, y, right, below in pairs)) / 2


def extent(start: float, end: float) -> tuple[float, bool]:
    """The length which, added to `start`, gives `end`, and whether it does so to the last bit."""
    length = end - start
    lower = higher = length
    for _ in range(STEPS):
        for tried in (lower, higher):
            if start + tried == end:
                return tried, True
        lower, higher = math.nextafter(lower, -math.inf), math.nextafter(higher, math.inf)
    return length, False


FORMAT = Coco
