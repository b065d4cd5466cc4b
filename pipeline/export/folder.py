"""A folder per class within one per split, and a CSV file where groups or metadata are known; read again exactly.

train/ants/0f3a9c41d2e8b765.jpg   metadata.csv
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pipeline.contracts import Target
from pipeline.errors import UserError
from pipeline.export.writer import Row, Writer
from pipeline.room import explained

METADATA = "metadata.csv"
MAX_BYTES = 255
"""Of a folder's name, on the file systems that are common."""
TAKEN = frozenset(("__macosx", "thumbs.db", "desktop.ini"))
"""What reading a folder leaves out as clutter, in lower case."""


class Folder(Writer):
    """Class folders."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABEL})
    details: ClassVar[bool] = True

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        super().__init__(folder, classes)
        for name in classes:
            if reason := _unfit(name):
                raise UserError(
                    f"The class {name!r} cannot be the name of a folder: {reason}. Rename it in the source."
                )
        self._known: list[tuple[str, str | None, Mapping[str, object]]] = []

    def add(self, row: Row) -> None:
        assert row.label is not None
        name = f"{row.split}/{self.classes[row.label]}/{row.name}"
        self.write(name, row.data)
        if row.group is not None or row.metadata:
            self._known.append((name, row.group, row.metadata))

    def finish(self) -> Mapping[str, str]:
        if not self._known:
            return {}
        path = self.folder / METADATA
        grouped = any(group is not None for _, group, _ in self._known)
        columns = list(self._known[0][2])
        try:
            with path.open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(["file", *(["group"] if grouped else []), *columns])
                for name, group, values in self._known:
                    cells = [_cell(values[column]) for column in columns]
                    table.writerow([name, *([group or ""] if grouped else []), *cells])
        except OSError as error:
            raise explained(error, path) from error
        return {"metadata": METADATA}


def _cell(value: object) -> str:
    """Text; a number with all of its digits."""
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _unfit(name: str) -> str | None:
    if "/" in name or "\\" in name or name in (".", ".."):
        return "it leads elsewhere"
    if name.startswith(".") or name.lower() in TAKEN:
        return "such folders are hidden, or clutter"
    if len(name.encode()) > MAX_BYTES:
        return f"it has more than {MAX_BYTES} bytes"
    return None


FORMAT = Folder
