"""The training journal: metrics with their times, appended to a local file by the loop and read by whoever records.

Appending costs microseconds and needs no server, so training never waits for one. A resumed run computes some steps a
second time, to the same values; the journal keeps the first line of each, so a reader that sends a line twice sends
the same time, step and value twice, which a store can recognise.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterable
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
HEAD = 60
"""Bytes of a journal that hold the time of its first line."""


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


def folder_of(home: Path, member: int) -> Path:
    """Where a training keeps what it has: the only one (0) in `home` itself, a member of an ensemble (from 1) in it."""
    return home / f"member-{member}" if member else home


def journals(home: Path) -> dict[int, Path]:
    """Those of a folder in `trainings()`: of the only training, as 0, or of the members that have begun, from 1."""
    alone = home / JOURNAL
    if alone.exists():
        return {0: alone}
    paths = ((number, folder_of(home, number) / JOURNAL) for number in itertools.count(1))
    return dict(itertools.takewhile(lambda found: found[1].exists(), paths))


def current() -> Path | None:
    """The folder in `trainings()` of the training that is at work in this tree, or was last."""
    try:
        return trainings() / POINTER.read_text().strip()
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

    def __init__(self, home: Path, member: int = 0) -> None:
        """Open the journal of a training and point to its folder; a line that a kill cut short is removed.

        Args:
            home: the folder in `trainings()`.
            member: of an ensemble, 1-based; 0: there is one training alone.
        """
        folder = folder_of(home, member)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / JOURNAL
        rows, end = read(path, 0)
        self._last: dict[str, int] = {}
        for row in rows:
            self._noted(row.series, row.step, row.values)
        self._file = Grown(path, end)
        self._unwritten: list[str] = []
        write_text(POINTER, home.name)

    def append(self, series: str, step: int, values: dict[str, float]) -> None:
        """Note metrics, unless this step of the series is noted already.

        Those that are no number are left out: JSON has none, and MLflow's databases keep the largest one for inf.
        """
        if step > self._last.get(series, -1):
            self._noted(series, step, values)
            known = {metric: value for metric, value in values.items() if math.isfinite(value)}
            line = {"time": time.time_ns() // 1_000_000, "series": series, "step": step, "values": known}
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


def head(path: Path) -> bytes:
    """How a journal begins: another one takes its place where a training starts over, and has another head.

    Raises:
        OSError: there is none.
    """
    with path.open("rb") as file:
        return file.read(HEAD)


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
