"""Pascal VOC: an XML file per picture, and lists that say the splits; boxes are read again exactly.

Annotations/0f3a9c41d2e8b765.xml   JPEGImages/0f3a9c41d2e8b765.jpg   ImageSets/Main/train.txt

Source: Everingham, Winn. The PASCAL Visual Object Classes Challenge 2012 Development Kit, 2012.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar
from xml.sax.saxutils import escape

from pipeline.contracts import Target
from pipeline.export.writer import Box, Row, Writer


class Voc(Writer):
    """Boxes by their corners, which may lie between pixels; what is hard or a crowd is `difficult`."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.OBJECTS})

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        super().__init__(folder, classes)
        self._stems: dict[str, list[str]] = {}

    def add(self, row: Row) -> None:
        assert row.objects is not None
        self.write(f"JPEGImages/{row.name}", row.data)
        self.write(f"Annotations/{row.stem}.xml", self._annotation(row, row.objects).encode())
        self._stems.setdefault(row.split, []).append(row.stem)

    def finish(self) -> Mapping[str, str]:
        for split, stems in self._stems.items():
            self.write(f"ImageSets/Main/{split}.txt", "".join(f"{stem}\n" for stem in stems).encode())
        return {}

    def _annotation(self, row: Row, objects: Sequence[Box]) -> str:
        lines = [
            "<annotation>",
            "  <folder>JPEGImages</folder>",
            f"  <filename>{row.name}</filename>",
            f"  <size><width>{row.width}</width><height>{row.height}</height></size>",
        ]
        for box in objects:
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (box.x1, box.y1, box.x2, box.y2), strict=True)
            lines += [
                "  <object>",
                f"    <name>{escape(self.classes[box.label])}</name>",
                f"    <difficult>{int(box.crowd)}</difficult>",
                f"    <bndbox>{''.join(f'<{tag}>{number(value)}</{tag}>' for tag, value in corners)}</bndbox>",
                "  </object>",
            ]
        return "\n".join([*lines, "</annotation>", ""])


def number(value: float) -> str:
    """A number with all of its digits; a whole one without a point, as other tools expect it."""
    return str(int(value)) if value.is_integer() else repr(value)


FORMAT = Voc
