"""The course of a training as curves: from its journal while it is at work, from its tables ever after.

Of a journal only what is new is read; a curve of a million steps is drawn with few points.
"""

from __future__ import annotations

import csv
import math
import statistics
import threading
from array import array
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from pydantic import Field

from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.journal import JOURNAL, ROLLBACK, Row, read, trainings

POINTS = 400
"""Of a curve, at most."""
TABLES = ("out/training/epochs.csv", "out/training/steps.csv")
GRADIENTS = "out/training/gradients.csv"
"""Of the steps whose gradient was measured; older runs have none."""
NO_CURVES = ("images_per_second",)
RECENT = 5
"""Epochs whose duration tells how long the next ones take."""
STALLED = 3.0
"""Times the usual duration of an epoch; after that and `HICCUP` nobody can say when the one at work ends."""
HICCUP = 5.0
"""Seconds that a busy disk may hold up training."""

Points = list[tuple[int, float]]
"""Epoch or step, counted from 1, and the value there; finite ones only."""


class Curves(Options):
    """The course of a training."""

    epochs: dict[str, Points] = Field(default_factory=dict)
    """By `train_loss`, `val_loss` and the validation score, as `val_accuracy`."""
    steps: dict[str, Points] = Field(default_factory=dict)
    """By `loss` and `learning_rate`."""
    gradients: dict[str, Points] = Field(default_factory=dict)
    """The norm of the gradient, by layer, and over `all` weights."""


class Column:
    """The finite values of one metric, each with its step."""

    def __init__(self) -> None:
        self._steps, self._values = array("q"), array("d")

    def append(self, step: int, value: float) -> None:
        """Steps come in their order."""
        if math.isfinite(value):
            self._values.append(value)
            self._steps.append(step)  # last: as many values as steps are there, at least

    def points(self) -> Points:
        """At most `POINTS`: the mean of as many neighbours each, at the last of them."""
        count = len(self._steps)
        size = -(-count // POINTS) or 1
        ends = (min(at + size, count) for at in range(0, count, size))
        return [(self._steps[end - 1], statistics.fmean(self._values[(end - 1) // size * size : end])) for end in ends]

    def before(self, step: int) -> Column:
        """The values before that step, as a column of their own: this one may be being read."""
        kept = Column()
        for at, value in zip(self._steps, self._values, strict=False):
            if at < step:
                kept.append(at, value)
        return kept


class Course:
    """A journal, read as far as it goes."""

    def __init__(self, path: Path) -> None:
        self.epochs = 0
        self.steps = 0
        self.steps_per_epoch = 0
        """0 until the first epoch is done."""
        self._path, self._offset = path, 0
        self._times: list[int] = []  # of the first line, and of the end of each epoch
        self._columns: dict[str, dict[str, Column]] = {"epoch": {}, "step": {}, "gradient": {}}
        self._reading = threading.Lock()

    def look(self) -> None:
        """Read what is new."""
        with self._reading:
            rows, self._offset = read(self._path, self._offset)
            for row in rows:
                self._take(row)

    def curves(self) -> Curves:
        """What was read."""
        found = [{name: one.points() for name, one in list(self._columns[of].items())} for of in self._columns]
        return Curves(epochs=found[0], steps=found[1], gradients=found[2])

    def seconds_left(self, epochs: int, now: float) -> float | None:
        """Until so many epochs are done, if that can be told at the moment `now`, in seconds since 1970."""
        lasted = [(end - begin) / 1000 for begin, end in pairwise(self._times)][-RECENT:]
        if not lasted or not epochs:
            return None
        usual, since = statistics.median(lasted), now - self._times[-1] / 1000
        if since > STALLED * usual + HICCUP:  # it stands still, or was stopped and has just been taken up again
            return None
        left = epochs - self.epochs
        return max(0.0, usual - since) + (left - 1) * usual if left > 0 else 0.0

    def _take(self, row: Row) -> None:
        if not self._times:
            self._times.append(row.time)
        if row.series == ROLLBACK:
            self._take_back(row)
            return
        if row.series == "epoch":
            self._times.append(row.time)
            self.epochs = row.step + 1
            self.steps_per_epoch = self.steps // self.epochs
        elif row.series == "step":
            self.steps = row.step + 1
        for name, value in row.values.items():
            if (short := name.partition("/")[2]) not in NO_CURVES:
                self._columns[row.series].setdefault(short, Column()).append(row.step + 1, value)

    def _take_back(self, row: Row) -> None:
        """Forget what a training that diverged had done since the place where it goes on."""
        for series, first in row.values.items():
            columns = self._columns[series]
            columns.update({name: column.before(int(first) + 1) for name, column in columns.items()})
        self.steps, self.epochs = int(row.values["step"]), int(row.values["epoch"])
        del self._times[self.epochs + 1 :]


def course(training: str) -> Course | None:
    """What a training has noted, by the name of its folder, if that is still here."""
    if not training or Path(training).name != training:
        return None
    path = trainings().absolute() / training / JOURNAL
    try:
        with path.open("rb") as file:
            found = _opened(path, file.read(60))
        found.look()
    except (OSError, ValueError, TypeError, LookupError):  # none any more, or damaged
        return None
    return found


def recorded(run: str) -> Curves | None:
    """The curves of a finished run, if its tables are here; the DVC remote is not asked."""
    try:
        return _recorded(run)
    except UserError:
        return None


@lru_cache(maxsize=16)
def _opened(path: Path, head: bytes) -> Course:  # noqa: ARG001 (a training that starts over writes another head)
    return Course(path)


@lru_cache(maxsize=64)
def _recorded(run: str) -> Curves:
    from flows.records import outputs
    from pipeline.registry import runs

    record = runs.read(run)
    if record is None:
        raise UserError(f"Run {run[:8]} has no record.")
    epochs, steps = (_table(outputs.read(record, name, remote=False).decode()) for name in TABLES)
    try:
        gradients = _table(outputs.read(record, GRADIENTS, remote=False).decode())
    except UserError:
        gradients = {}
    return Curves(epochs=epochs, steps=steps, gradients=gradients)


def _table(text: str) -> dict[str, Points]:
    """The columns of a table whose first one counts."""
    header, *rows = csv.reader(text.splitlines())
    columns = {name: Column() for name in header[1:]}
    for counter, *cells in rows:
        for column, cell in zip(columns.values(), cells, strict=True):
            if cell:  # a layer that rested has no gradient
                column.append(int(counter) + 1, float(cell))
    return {name: column.points() for name, column in columns.items()}
