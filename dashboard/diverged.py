"""The step at which a training diverged, from the files that it left: see `pipeline/train/divergence.py`.

They are there until the training starts over, or is one of the oldest.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, ValidationError

from dashboard.pictures import Missing, Thumbnail, small
from pipeline.contracts import Options
from pipeline.journal import trainings
from pipeline.registry import attempts

FOLDER, STEP, PICTURES = "diverged", "step.json", "pictures.csv"
TRAINING = re.compile(r"[0-9a-f]{32}(-[0-9]{1,4})?")
FILE = re.compile(r"[0-9]{4,6}\.png")
SHOWN = 24
"""Pictures on the page."""
MOST = 100_000
"""Pictures of a step that are looked through."""


class Told(Options):
    """`step.json`."""

    epoch: int
    step: int
    learning_rate: float
    loss: float | str
    what: str
    gradient_norms: dict[str, float | str] = Field(default_factory=dict)


class Picture(NamedTuple):
    """One of the step's."""

    file: str
    loss: float


class Step(NamedTuple):
    """What a page shows of it."""

    epoch: int
    """1-based."""
    step: int
    """Within the epoch, 1-based."""
    learning_rate: float
    loss: float | str
    folder: Path
    pictures: Sequence[Picture]
    """Those with the worst losses, these first."""
    of: int
    """How many there are."""


def of_run(run: str) -> Step | None:
    """Where the training of the run of this id diverged; None if it did not, or nothing is left of it."""
    folder = _folder(run)
    try:
        told = Told.model_validate_json((folder / STEP).read_bytes()) if folder else None
    except (OSError, ValidationError):
        return None
    if folder is None or told is None:
        return None
    found = sorted(_listed(folder), key=_how_good)
    return Step(told.epoch, told.step, told.learning_rate, told.loss, folder, found[:SHOWN], len(found))


def picture(run: str, file: str) -> Thumbnail:
    """One picture of that step.

    Raises:
        Missing: there is none of that name, or it cannot be shown.
    """
    folder = _folder(run)
    if folder is None or not FILE.fullmatch(file) or (folder / file).is_symlink():
        raise Missing("no such picture")
    try:
        data = (folder / file).read_bytes()
    except OSError:
        raise Missing("no such picture") from None
    return small(data, 3)


def _folder(run: str) -> Path | None:
    """Of the training, or of that member of an ensemble which diverged: the last one that was begun."""
    attempt = attempts.read(run)
    if attempt is None or not TRAINING.fullmatch(attempt.training):
        return None
    home = trainings() / attempt.training
    members = sorted(home.glob("member-*"), key=lambda path: (len(path.name), path.name))
    return next((found for path in [*members[::-1], home] if (found := path / FOLDER).is_dir()), None)


def _how_good(one: Picture) -> tuple[bool, float]:
    return (True, -one.loss) if math.isfinite(one.loss) else (False, 0.0)


def _listed(folder: Path) -> list[Picture]:
    try:
        with (folder / PICTURES).open(encoding="utf-8", newline="") as file:
            rows = list(islice(csv.DictReader(file), MOST))
            return [Picture(row["file"], float(row["loss"])) for row in rows if FILE.fullmatch(row["file"])]
    except (OSError, ValueError, LookupError, TypeError, csv.Error):  # cut short, or written by other code
        return []
