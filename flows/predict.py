"""`convoy predict`: the champion's answer to pictures, without asking MLflow."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.bundle import Bundle
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.images import ImageError
from pipeline.params import Named
from pipeline.registry import champion

BATCH = 32
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}


class Asked(NamedTuple):
    """How the answers are to be told."""

    as_json: bool
    drawn: Path | None
    """A folder for the pictures with the answers drawn on them."""


def show_predictions(pictures: Sequence[Path], asked: Asked) -> None:
    """Print the champion's answer to each picture.

    Raises:
        UserError: there is no champion, its files were changed, or some pictures cannot be read; the others are
            answered first.
    """
    name = load(Named).name
    reigning = champion.current(name)
    if reigning is None:
        raise UserError(f"{name!r} has no champion yet: `convoy run` trains a model, and the gate decides.")
    bundle = Bundle.open(reigning.bundle())
    files = list(_files(pictures))
    if not asked.as_json:
        print(f"{name} version {reigning.version.version}, champion since {reigning.since}", file=sys.stderr)
    unread = 0
    for start in range(0, len(files), BATCH):
        unread += _answer(bundle, files[start : start + BATCH], asked)
    if unread:
        raise UserError(f"{unread} of {len(files)} files are no pictures that can be read; see above.")


def _answer(bundle: Bundle, files: list[Path], asked: Asked) -> int:
    """Print the answers to some files; how many could not be read."""
    readable = []
    for path in files:
        try:
            readable.append((path, bundle.prepare(path.read_bytes())))
        except (ImageError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
    told = bundle.answer([prepared for _, prepared in readable])
    for (path, _), one in zip(readable, told, strict=True):
        if asked.as_json:
            plain = bundle.task.plain(one, bundle.info.classes)
            print(json.dumps({"image": str(path), **plain}, default=_base64))
        else:
            print(f"{path}  {bundle.task.marks(one, bundle.info.classes).words}")
        if asked.drawn:
            _draw(bundle, path, one, asked.drawn)
    return len(files) - len(readable)


def _draw(bundle: Bundle, path: Path, told: Any, folder: Path) -> None:
    """Write the picture with the answer drawn on it into `folder`, under its own name."""
    from pipeline.drawing import marked

    from pipeline.files import write_bytes
    from pipeline.images import decode, encode_png

    pixels = decode(path.read_bytes(), bundle.info.channels)
    marks = bundle.task.marks(told, bundle.info.classes)
    write_bytes(folder / f"{path.stem}.png", encode_png(marked(pixels, marks, max(pixels.shape[:2]))))


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _files(pictures: Sequence[Path]) -> Iterator[Path]:
    for path in pictures:
        if path.is_dir():
            yield from (file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES)
        elif path.exists():
            yield path
        else:
            raise UserError(f"{path}: no such file or folder.")
