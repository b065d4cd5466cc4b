"""`convoy export`: the dataset that `ingest` made, in a format that other tools read."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.contracts import Target
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.export.writer import Writer, rows
from pipeline.files import replacing_folder
from pipeline.source import check_writable

FORMATS = ("coco", "folder", "masks", "voc", "yolo")
GROUPS = "groups and metadata of {count:,} pictures are left out: this format has no place for them"
OUTLINES = "{count:,} outlines are left out: this format has no place for them"


@dataclass(frozen=True)
class Exported:
    """What was written."""

    images: int
    data: dict[str, Any]
    """The section of `params.yaml` that reads it again."""
    lost: list[str]
    """What the format cannot hold, in sentences; nothing: what is read again is the same dataset."""


def export(dest: Path, form: str, dataset: Dataset, advance: Callable[[int], None] = lambda _: None) -> Exported:
    """Write a dataset into a new folder, all of it or nothing.

    Args:
        dest: does not exist, or is an empty folder.
        form: one of `FORMATS`.
        dataset: what to write.
        advance: called after each picture.

    Raises:
        UserError: there is something at `dest`, or nothing can be written there; the format cannot hold such
            annotations, or a name of a class.
    """
    kind = _kind(form, dataset)
    check_writable(str(dest))
    try:
        taken = dest.exists() and (not dest.is_dir() or any(dest.iterdir()))
    except OSError as error:
        raise UserError(f"{dest} cannot be looked into: {error.strerror}.") from None
    if taken:
        raise UserError(f"{dest} holds something already. Name a folder that is new or empty.")
    try:
        with replacing_folder(dest) as folder:
            writer = kind(folder, dataset.info.classes)
            options = _written(writer, dataset, advance)
    except OSError as error:  # a folder that may not be written, or that is none
        raise UserError(f"{dest} cannot be written: {error.strerror}. Name a folder that can.") from error
    data = {"name": form, "path": str(dest), **options}
    return Exported(dataset.info.images, data, [text.format(count=n) for text, n in writer.notes.lost.items()])


def _written(writer: Writer, dataset: Dataset, advance: Callable[[int], None]) -> Mapping[str, str]:
    """Write every picture; the options with which the format is read again."""
    for row in rows(dataset):
        if not writer.details and (row.group is not None or row.metadata):
            writer.notes.add(GROUPS)
        if not writer.outlines and (drawn := sum(box.outline is not None for box in row.objects or ())):
            writer.notes.add(OUTLINES, drawn)
        writer.add(row)
        advance(1)
    return writer.finish()


def _kind(form: str, dataset: Dataset) -> type[Writer]:
    """The writer of a format.

    Raises:
        UserError: it has no place for such annotations.
    """
    kinds = {name: importlib.import_module(f"pipeline.export.{name}").FORMAT for name in FORMATS}
    learns = Target[dataset.info.learns]
    if learns not in kinds[form].takes:
        fitting = [name for name, kind in kinds.items() if learns in kind.takes]
        held = ", or ".join(sorted(map(_short, kinds[form].takes)))
        raise UserError(
            f"Format {form!r} holds {held}, and the dataset has {_short(learns)}. "
            f"{'It fits: ' + ', '.join(fitting) if fitting else 'No format here holds these'}."
        )
    kind: type[Writer] = kinds[form]
    return kind


def _short(target: Target) -> str:
    return target.partition(",")[0]
