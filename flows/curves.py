"""The course of a training as curves: from its journal while it is at work, from its tables ever after.

Of a journal only what is new is read; a curve of a million steps is drawn with few points. Members of an ensemble have
a course each.
"""

from __future__ import annotations

import csv
import math
import statistics
import threading
from array import array
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from pydantic import Field

from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.journal import ROLLBACK, Row, head, journals, read, trainings

POINTS = 400
"""Of a curve, at most."""
TABLES = ("out/training/epochs.csv", "out/training/steps.csv", "out/training/gradients.csv")
MEMBER = "member"
"""The column that says whose a row is, where several trainings make one model."""
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

    member: int = 0
    """Of an ensemble, 1-based; 0: there is one training alone."""
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

    def last(self) -> tuple[int, float]:
        """The last value and its step; of none, 0 is the step."""
        return (self._steps[-1], self._values[len(self._steps) - 1]) if self._steps else (0, math.nan)

    def before(self, step: int) -> Column:
        """The values before that step, as a column of their own: this one may be being read."""
        kept = Column()
        for at, value in zip(self._steps, self._values, strict=False):
            if at < step:
                kept.append(at, value)
        return kept


class Course:
    """The journal of a training, read as far as it goes."""

    def __init__(self, path: Path, member: int = 0) -> None:
        self.member = member
        """1-based; 0: there is one training alone."""
        self.epochs = 0
        self.steps = 0
        self.steps_per_epoch = 0
        """0 until the first epoch is done."""
        self.times: list[int] = []
        """Of the first line, and of the end of each epoch, in milliseconds since 1970."""
        self._path, self._offset = path, 0
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
        return Curves(member=self.member, epochs=found[0], steps=found[1], gradients=found[2])

    def latest(self) -> dict[str, float]:
        """What the last epoch came to that is done."""
        found = {name: one.last() for name, one in list(self._columns["epoch"].items())}
        return {name: value for name, (epoch, value) in found.items() if epoch == self.epochs}

    def _take(self, row: Row) -> None:
        if not self.times:
            self.times.append(row.time)
        if row.series == ROLLBACK:
            self._take_back(row)
            return
        if row.series == "epoch":
            self.times.append(row.time)
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
        del self.times[self.epochs + 1 :]


def courses(training: str) -> list[Course]:
    """What a training has noted, by the name of its folder; of an ensemble each member that has begun, in their order.

    Empty where nothing of it is left.
    """
    if not training or Path(training).name != training:
        return []
    home = trainings().absolute() / training
    try:
        found = [_opened(path, member, head(path)) for member, path in journals(home).items()]
        for one in found:
            one.look()
    except (OSError, ValueError, TypeError, LookupError):  # none any more, or damaged
        return []
    return found


def seconds_left(begun: Sequence[Course], members: int, epochs: int, now: float) -> float | None:
    """Until all members have done so many epochs, if that can be told.

    Args:
        begun: of those that have begun, one at least; they learn one after the other.
        members: how many there are.
        epochs: of each.
        now: seconds since 1970.
    """
    times = [*begun[0].times[:1], *(end for one in begun for end in one.times[1:])]
    lasted = [(end - begin) / 1000 for begin, end in pairwise(times)][-RECENT:]
    if not lasted or not epochs:
        return None
    usual, since = statistics.median(lasted), now - times[-1] / 1000
    if since > STALLED * usual + HICCUP:  # it stands still, or was stopped and has just been taken up again
        return None
    left = (members - len(begun) + 1) * epochs - begun[-1].epochs
    return max(0.0, usual - since) + (left - 1) * usual if left > 0 else 0.0


def recorded(run: str) -> list[Curves]:
    """The curves of a finished run, of each member, if its tables are here; the DVC remote is not asked."""
    try:
        return _recorded(run)
    except UserError:
        return []


@lru_cache(maxsize=128)
def _opened(path: Path, member: int, head: bytes) -> Course:  # noqa: ARG001 (one that starts over has another head)
    return Course(path, member)


@lru_cache(maxsize=64)
def _recorded(run: str) -> list[Curves]:
    from flows.records import outputs
    from pipeline.registry import runs

    record = runs.read(run)
    if record is None:
        raise UserError(f"Run {run[:8]} has no record.")
    epochs, steps, gradients = (_table(outputs.read(record, name, remote=False).decode()) for name in TABLES)
    return [
        Curves(member=member, epochs=found, steps=steps.get(member, {}), gradients=gradients.get(member, {}))
        for member, found in epochs.items()
    ]


def _table(text: str) -> dict[int, dict[str, Points]]:
    """The columns of a table by the member whose they are, or 0; the one before them counts."""
    header, *rows = csv.reader(text.splitlines())
    first = 1 if header[0] == MEMBER else 0  # where it counts
    found: dict[int, dict[str, Column]] = {}
    for cells in rows:
        member = int(cells[0]) if first else 0
        if member not in found:
            found[member] = {name: Column() for name in header[first + 1 :]}
        for column, cell in zip(found[member].values(), cells[first + 1 :], strict=True):
            if cell:  # a layer that rested has no gradient
                column.append(int(cells[first]) + 1, float(cell))
    return {member: {name: column.points() for name, column in columns.items()} for member, columns in found.items()}
