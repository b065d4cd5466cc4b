"""`convoy predict`: the champion's answer to pictures, without asking MLflow."""

from __future__ import annotations

import base64
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.answering import Marks
from pipeline.bundle import Bundle
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.images import ImageError
from pipeline.params import Named
from pipeline.registry import champion

BATCH = 32
NAMED = 3
"""Probabilities in a line."""
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}


class Asked(NamedTuple):
    """How the answers are to be told."""

    as_json: bool
    drawn: Path | None
    """A folder for the pictures with the answers drawn on them."""


def show_predictions(pictures: Sequence[Path], asked: Asked) -> None:
    """Print the champion's answer to each picture.

    Raises:
        UserError: there is no champion, its files were changed, drawings would take the place of pictures, or some
            pictures cannot be read; the others are answered first.
    """
    name = load(Named).name
    reigning = champion.current(name)
    if reigning is None:
        raise UserError(f"{name!r} has no champion yet: `convoy run` trains a model, and the gate decides.")
    bundle = Bundle.open(reigning.bundle())
    files = files_of(pictures)
    drawings = _drawings(files, asked.drawn) if asked.drawn else {}
    if not asked.as_json:
        print(f"{name} version {reigning.version.version}, champion since {reigning.since}", file=sys.stderr)
    unread = 0
    for start in range(0, len(files), BATCH):
        unread += _answer(bundle, files[start : start + BATCH], asked.as_json, drawings)
    if unread:
        raise UserError(f"{unread} of {len(files)} files are no pictures that can be read; see above.")


def _answer(bundle: Bundle, files: list[Path], as_json: bool, drawings: Mapping[Path, Path]) -> int:
    """Print the answers to some files; how many could not be read."""
    readable = []
    for path in files:
        try:
            readable.append((path, bundle.prepare(path.read_bytes())))
        except (ImageError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
    told = bundle.answer([prepared for _, prepared in readable])
    for (path, _), one in zip(readable, told, strict=True):
        if as_json:
            plain = bundle.task.plain(one, bundle.info.classes)
            print(json.dumps({"image": str(path), **plain}, default=_base64))
        else:
            print(f"{path}  {_in_a_line(bundle.task.marks(one, bundle.info.classes))}")
        if path in drawings:
            _draw(bundle, path, one, drawings[path])
    return len(files) - len(readable)


def _in_a_line(marks: Marks) -> str:
    """The words of an answer; where it is chosen among several, the most probable of them too."""
    best = sorted(marks.bars, key=lambda bar: -bar[1])[:NAMED]
    return marks.words + (f"  ({', '.join(f'{name} {share:.0%}' for name, share in best)})" if best else "")


def _drawings(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where in `folder` the drawing of each picture goes: under its own name, and a number if that is taken.

    Raises:
        UserError: a picture that is asked about lies there.
    """
    pictures = {path.resolve() for path in files}
    drawings: dict[Path, Path] = {}
    taken: set[Path] = set()
    for path in dict.fromkeys(files):
        names = (path.stem if number == 1 else f"{path.stem}-{number}" for number in itertools.count(1))
        target = next(place for name in names if (place := folder / f"{name}.png") not in taken)
        if target.resolve() in pictures:
            raise UserError(
                f"--draw {folder}: {target.name} lies there, and is one of the pictures. Name another folder."
            )
        drawings[path] = target
        taken.add(target)
    return drawings


def _draw(bundle: Bundle, path: Path, told: Any, target: Path) -> None:
    """Write the picture with the answer drawn on it."""
    from pipeline.drawing import marked
    from pipeline.files import write_bytes
    from pipeline.images import decode, encode_png

    pixels = decode(path.read_bytes(), bundle.info.channels)
    marks = bundle.task.marks(told, bundle.info.classes)
    write_bytes(target, encode_png(marked(pixels, marks, max(pixels.shape[:2]))))


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def files_of(pictures: Sequence[Path]) -> list[Path]:
    """The files, and those in folders, that have the suffix of a picture.

    Raises:
        UserError: one of them is not there.
    """
    files: list[Path] = []
    for path in pictures:
        if path.is_dir():
            files += [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES]
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file or folder.")
    return files
