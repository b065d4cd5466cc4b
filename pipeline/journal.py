"""The training journal: metrics with their times, appended to a local file by the loop and read by whoever records.

Appending costs microseconds and needs no server, so training never waits for one. A resumed run computes some steps a
second time, to the same values; the journal keeps the first line of each, so a reader that sends a line twice sends
the same time, step and value twice, which a store can recognise.
"""

from __future__ import annotations

import json
import time
from bisect import bisect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.files import STATE, Grown, shared, write_text

POINTER = STATE / "train" / "current"
"""Names the folder in `trainings()` of the training that is at work in this tree, or was last."""

JOURNAL = "journal.jsonl"
ROLLBACK = "rollback"
"""The series of rows that take others back: their values are, of some series, the first step that does not count."""
CLOCK_STEP = 100
"""Milliseconds by which the time of a file may run behind."""


class Row(NamedTuple):
    """One line: some metrics at one step of a series."""

    time: int
    """Milliseconds since 1970."""
    series: str
    """What `step` counts: `step`, `gradient` (steps too) or `epoch`; or `ROLLBACK`."""
    step: int
    values: dict[str, float]


def trainings() -> Path:
    """Where trainings keep checkpoints and journals, a folder each."""
    return shared() / "train"


def current() -> Path | None:
    """The journal of the training that is at work in this tree, or was last."""
    try:
        return trainings() / POINTER.read_text().strip() / JOURNAL
    except OSError:
        return None


def current_since(moment: int) -> Path | None:
    """As `current`, of a training that was started after `moment`, in milliseconds since 1970: each start points anew.

    So the training of an earlier run in this tree is not taken for that of the run at work.
    """
    try:
        begun = POINTER.stat().st_mtime_ns // 1_000_000
    except OSError:
        return None
    return current() if begun >= moment - CLOCK_STEP else None


class Journal:
    """An open journal; lines are buffered until `flush`."""

    def __init__(self, folder: Path, begins: Mapping[str, int] | None = None) -> None:
        """Open the journal in `folder` and point to it; a line that a kill cut short is removed.

        Args:
            folder: of the training.
            begins: by series, the step at which what is appended begins, where others come before it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / JOURNAL
        rows, end = read(path, 0)
        self._last: dict[str, int] = {}
        for row in rows:
            self._noted(row.series, row.step, row.values)
        self._file = Grown(path, end)
        self._unwritten: list[str] = []
        self._begins = dict(begins or {})
        write_text(POINTER, folder.name)

    def append(self, series: str, step: int, values: dict[str, float]) -> None:
        """Note metrics, unless this step of the series is noted already."""
        step += self._begins.get(series, 0)
        if series == ROLLBACK:
            values = {other: first + self._begins.get(other, 0) for other, first in values.items()}
        if step > self._last.get(series, -1):
            self._noted(series, step, values)
            line = {"time": time.time_ns() // 1_000_000, "series": series, "step": step, "values": values}
            self._unwritten.append(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Let readers see every line so far.

        Raises:
            UserError: the disk is full; the lines that were there still are, and no part of another one.
        """
        if self._unwritten:
            self._file.add("".join(self._unwritten).encode())
            self._unwritten = []

    def close(self) -> None:
        """Flush and close."""
        try:
            self.flush()
        finally:
            self._file.close()

    def _noted(self, series: str, step: int, values: dict[str, float]) -> None:
        self._last[series] = max(step, self._last.get(series, -1))
        if series == ROLLBACK:
            for other, first in values.items():
                self._last[other] = min(self._last.get(other, -1), int(first) - 1)


def read(path: Path, offset: int) -> tuple[list[Row], int]:
    """The complete lines from byte `offset` on, and the offset after them; none where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return [Row(**json.loads(line)) for line in data[:end].splitlines()], offset + end


class Turns:
    """Whose rows are whose in the journal of an ensemble, whose members learn one after the other.

    Epochs of a member begin at a multiple of those that params give each. Where its steps begin is seen: after all
    epochs of the one before it, or, where that one stopped early, after a gap.
    """

    def __init__(self, epochs: int) -> None:
        """
        Args:
            epochs: of a training, at most.
        """
        self.begins: list[dict[str, int]] = []
        """Of each member that has begun: the first step of each series."""
        self._epochs = epochs
        self._step = self._epoch = -1  # the last ones

    def take(self, row: Row) -> tuple[int, Row]:
        """The member that noted the next row of the journal, 0-based, and the row as if it had learnt alone."""
        if row.series == "step":
            if row.step != self._step + 1 or self._epoch + 1 == len(self.begins) * self._epochs:
                self._begin(row.step)
            self._step = row.step
        elif row.series == "epoch":
            self._epoch = row.step
        elif row.series == ROLLBACK:
            step, self._epoch = int(row.values["step"]), int(row.values["epoch"]) - 1
            if self._epoch + 1 == len(self.begins) * self._epochs:
                self._begin(step)  # it diverged before it had noted a step
            self._step = step - 1
        begins = self.begins[-1]
        if row.series == ROLLBACK:
            values = {series: first - begins.get(series, 0) for series, first in row.values.items()}
            return len(self.begins) - 1, row._replace(values=values)
        return len(self.begins) - 1, row._replace(step=row.step - begins.get(row.series, 0))

    def member(self, series: str, step: int) -> int:
        """Whose step of a series that is, of all that have begun."""
        return bisect([begins[series] for begins in self.begins], step) - 1

    def _begin(self, step: int) -> None:
        self.begins.append({"step": step, "gradient": step, "epoch": len(self.begins) * self._epochs})


def standing(rows: Iterable[Row]) -> list[Row]:
    """Those rows that no later one takes back, and none that takes back."""
    kept: dict[str, list[Row]] = {}
    for row in rows:
        if row.series == ROLLBACK:
            for series, first in row.values.items():
                kept[series] = [each for each in kept.get(series, []) if each.step < first]
        else:
            kept.setdefault(row.series, []).append(row)
    return [row for of_series in kept.values() for row in of_series]
