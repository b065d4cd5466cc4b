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
from pipeline.journal import journals, trainings
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

    member: int
    """That diverged, of an ensemble, 1-based; 0: there is one training alone."""
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
    left = _left(run)
    if left is None:
        return None
    member, folder = left
    try:
        told = Told.model_validate_json((folder / STEP).read_bytes())
    except (OSError, ValidationError):
        return None
    found = sorted(_listed(folder), key=_how_good)
    return Step(member, told.epoch, told.step, told.learning_rate, told.loss, folder, found[:SHOWN], len(found))


def picture(run: str, file: str) -> Thumbnail:
    """One picture of that step.

    Raises:
        Missing: there is none of that name, or it cannot be shown.
    """
    left = _left(run)
    if left is None or not FILE.fullmatch(file) or (left[1] / file).is_symlink():
        raise Missing("no such picture")
    try:
        data = (left[1] / file).read_bytes()
    except OSError:
        raise Missing("no such picture") from None
    return small(data, 3)


def _left(run: str) -> tuple[int, Path] | None:
    """The member that diverged, see `Step`, and the folder that it left; of several the one that began last."""
    attempt = attempts.read(run)
    if attempt is None or not TRAINING.fullmatch(attempt.training):
        return None
    begun = reversed(journals(trainings() / attempt.training).items())
    folders = ((member, journal.with_name(FOLDER)) for member, journal in begun)
    return next((found for found in folders if found[1].is_dir()), None)


def _how_good(one: Picture) -> tuple[bool, float]:
    return (True, -one.loss) if math.isfinite(one.loss) else (False, 0.0)


def _listed(folder: Path) -> list[Picture]:
    try:
        with (folder / PICTURES).open(encoding="utf-8", newline="") as file:
            rows = list(islice(csv.DictReader(file), MOST))
            return [Picture(row["file"], float(row["loss"])) for row in rows if FILE.fullmatch(row["file"])]
    except (OSError, ValueError, LookupError, TypeError, csv.Error):  # cut short, or written by other code
        return []
