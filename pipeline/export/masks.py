"""Pictures and masks in folders, each mask a PNG whose values are the ids of the classes, 255 where nothing is said.

train/images/0f3a9c41d2e8b765.jpg   train/masks/0f3a9c41d2e8b765.png   classes.txt

The masks have the palette of Pascal VOC, so that people see them; what counts is the index. They are read again
exactly.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pipeline.contracts import Target
from pipeline.errors import UserError
from pipeline.export.writer import Row, Writer

ABSENT = frozenset(("void", "ignore", "ignored", "__ignore__", "_ignore_", "unlabelled", "unlabeled", "don't care"))
"""Names, in lower case, that a list of classes has for what is no class."""


class Masks(Writer):
    """Index PNGs."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.MASK})

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        super().__init__(folder, classes)
        for name in classes:
            if name.lower() in ABSENT or " ".join(name.split()).strip("\"':") != name:
                raise UserError(
                    f"The class {name!r} would not be read again from a list of classes. Rename it in the source."
                )
        self._palette = [level for value in range(256) for level in colour(value)]

    def add(self, row: Row) -> None:
        from PIL import Image

        assert row.mask is not None
        picture = Image.fromarray(row.mask)
        picture.putpalette(self._palette)
        out = io.BytesIO()
        picture.save(out, "PNG")
        self.write(f"{row.split}/images/{row.name}", row.data)
        self.write(f"{row.split}/masks/{row.stem}.png", out.getvalue())

    def finish(self) -> Mapping[str, str]:
        lines = [f"{number}: {name}\n" for number, name in enumerate(self.classes)]
        self.write("classes.txt", "".join(lines).encode())
        return {}


def colour(value: int) -> tuple[int, int, int]:
    """Of a class id, as the devkit of Pascal VOC paints it: bits of the id, the lowest first, are bits of the levels,
    the highest first.

    Source: `VOClabelcolormap.m` of that kit.
    """
    red = green = blue = 0
    for place in range(8):
        red |= (value >> 3 * place & 1) << 7 - place
        green |= (value >> 3 * place + 1 & 1) << 7 - place
        blue |= (value >> 3 * place + 2 & 1) << 7 - place
    return red, green, blue


FORMAT = Masks
