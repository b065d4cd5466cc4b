"""`convoy predict`: the champion's answer to pictures, without asking MLflow."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.bundle import Bundle
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.images import ImageError
from pipeline.params import Named
from pipeline.registry import champion

BATCH = 64
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}


def show_predictions(pictures: Sequence[Path], top: int, as_json: bool) -> None:
    """Print the champion's answer to each picture, most probable class first.

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
    if not as_json:
        print(f"{name} version {reigning.version.version}, champion since {reigning.since}", file=sys.stderr)
    unread = 0
    for start in range(0, len(files), BATCH):
        unread += _answer(bundle, files[start : start + BATCH], top, as_json)
    if unread:
        raise UserError(f"{unread} of {len(files)} files are no pictures that can be read; see above.")


def _answer(bundle: Bundle, files: list[Path], top: int, as_json: bool) -> int:
    """Print the answers to some files; how many could not be read."""
    readable = []
    for path in files:
        try:
            readable.append((path, bundle.prepare(path.read_bytes())))
        except (ImageError, OSError) as error:
            print(f"{path}: {error}", file=sys.stderr)
    if readable:
        import numpy as np

        answers = bundle.task.probabilities(bundle.outputs(np.stack([pixels for _, pixels in readable])))
        for (path, _), probabilities in zip(readable, answers, strict=True):
            ranked = sorted(zip(bundle.info.classes, probabilities.tolist(), strict=True), key=lambda pair: -pair[1])
            if as_json:
                print(json.dumps({"image": str(path), "answer": ranked[0][0], "probabilities": dict(ranked)}))
            else:
                print(f"{path}  " + "  ".join(f"{name} {share:.1%}" for name, share in ranked[:top]))
    return len(files) - len(readable)


def _files(pictures: Sequence[Path]) -> Iterator[Path]:
    for path in pictures:
        if path.is_dir():
            yield from (file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES)
        elif path.exists():
            yield path
        else:
            raise UserError(f"{path}: no such file or folder.")
