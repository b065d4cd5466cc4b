"""`convoy predict`: the champion's answer to pictures, without asking MLflow."""

from __future__ import annotations

import base64
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flows.records.terminal import safe
from pipeline.answering import Marks
from pipeline.bundle import Bundle, Prepared
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.images import ImageError
from pipeline.params import Named
from pipeline.registry import champion

BATCH = 32
"""Squares that are answered together."""
NAMED = 3
"""Probabilities in a line."""
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")


class Asked(NamedTuple):
    """How the answers are to be told."""

    as_json: bool
    drawn: Path | None
    """A folder for the pictures with the answers drawn on them."""


class Read(NamedTuple):
    """A picture that could be read, once: a pipe gives it no second time."""

    path: Path
    data: bytes
    prepared: Prepared


def show_predictions(pictures: Sequence[Path], asked: Asked) -> None:
    """Print the champion's answer to each picture.

    Raises:
        UserError: there is no champion, its files were changed, drawings have no place or would take that of pictures,
            or some pictures cannot be read; the others are answered first.
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
    unread = len(files)
    for portion in _read(bundle, files):
        _answer(bundle, portion, asked.as_json, drawings)
        unread -= len(portion)
    if unread:
        raise UserError(f"{unread} of {len(files)} files are no pictures that can be read; see above.")


def _read(bundle: Bundle, files: Sequence[Path]) -> Iterator[list[Read]]:
    """The pictures among some files, as many at a time as fill a batch: of large ones, cut into tiles, a single one."""
    portion: list[Read] = []
    squares = 0
    for path in files:
        try:
            data = path.read_bytes()
            portion.append(Read(path, data, bundle.prepare(data)))
        except (ImageError, OSError) as error:
            print(f"{safe(str(path))}: {error}", file=sys.stderr)
            continue
        squares += len(portion[-1].prepared.squares)
        if squares >= BATCH:
            yield portion
            portion, squares = [], 0
    if portion:
        yield portion


def _answer(bundle: Bundle, pictures: Sequence[Read], as_json: bool, drawings: Mapping[Path, Path]) -> None:
    """Print the answers to some pictures."""
    told = bundle.answer([picture.prepared for picture in pictures])
    for picture, one in zip(pictures, told, strict=True):
        if as_json:
            plain = bundle.task.plain(one, bundle.info.classes)
            print(json.dumps({"image": str(picture.path), **plain}, default=_base64))
        else:
            print(safe(f"{picture.path}  {_in_a_line(bundle.task.marks(one, bundle.info.classes))}"))
        if picture.path in drawings:
            _draw(bundle, picture.data, one, drawings[picture.path])


def _in_a_line(marks: Marks) -> str:
    """The words of an answer; where it is chosen among several, the most probable of them too."""
    best = sorted(marks.bars, key=lambda bar: -bar[1])[:NAMED]
    return marks.words + (f"  ({', '.join(f'{name} {share:.0%}' for name, share in best)})" if best else "")


def _drawings(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where in `folder` the drawing of each picture goes: under its own name, and a number if that is taken.

    Raises:
        UserError: it is a file, or a picture that is asked about lies there.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--draw {folder}: a file lies there. Name a folder.")
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


def _draw(bundle: Bundle, data: bytes, told: Any, target: Path) -> None:
    """Write the picture with the answer drawn on it.

    Raises:
        UserError: it cannot be written.
    """
    from pipeline.drawing import marked
    from pipeline.files import write_bytes
    from pipeline.images import decode, encode_png

    pixels = decode(data, bundle.info.channels)
    marks = bundle.task.marks(told, bundle.info.classes)
    drawn = encode_png(marked(pixels, marks, max(pixels.shape[:2])))
    try:
        write_bytes(target, drawn)
    except OSError as error:
        raise UserError(f"--draw: {target} cannot be written: {error.strerror}. Name another folder.") from error


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def files_of(pictures: Sequence[Path]) -> list[Path]:
    """The files, and those in folders, that have the suffix of a picture.

    Raises:
        UserError: one of them is not there, cannot be looked at, or is a folder without pictures.
    """
    files: list[Path] = []
    for path in pictures:
        try:
            files += _files_in(path)
        except OSError as error:  # a name that is too long, a folder that is closed
            raise UserError(f"{path}: {error.strerror}.") from error
    return files


def _files_in(path: Path) -> list[Path]:
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES and not file.is_dir()]
        if not found:
            raise UserError(f"{path}: no picture lies in this folder; its name would end in {', '.join(SUFFIXES)}.")
        return found
    if not path.exists():
        raise UserError(f"{path}: no such file or folder.")
    return [path]
