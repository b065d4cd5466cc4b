"""The training journal: metrics with their times, appended to a local file by the loop and read by whoever records.

Appending costs microseconds and needs no server, so training never waits for one. A resumed run computes some steps a
second time, to the same values; the journal keeps the first line of each, so a reader that sends a line twice sends
the same time, step and value twice, which a store can recognise.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

from pipeline.files import STATE, shared, write_text

POINTER = STATE / "train" / "current"
"""Names the folder in `trainings()` of the training that is at work in this tree, or was last."""

JOURNAL = "journal.jsonl"
CLOCK_STEP = 100
"""Milliseconds by which the time of a file may run behind."""


class Row(NamedTuple):
    """One line: some metrics at one step of a series."""

    time: int
    """Milliseconds since 1970."""
    series: str
    """What `step` counts: `step` or `epoch`."""
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

    def __init__(self, folder: Path) -> None:
        """Open the journal in `folder` and point to it; a line that a kill cut short is removed."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / JOURNAL
        rows, end = read(path, 0)
        self._last: dict[str, int] = {}
        for row in rows:
            self._last[row.series] = max(row.step, self._last.get(row.series, -1))
        self._file = path.open("a", encoding="utf-8")
        self._file.truncate(end)
        write_text(POINTER, folder.name)

    def append(self, series: str, step: int, values: dict[str, float]) -> None:
        """Note metrics, unless this step of the series is noted already."""
        if step > self._last.get(series, -1):
            self._last[series] = step
            line = {"time": time.time_ns() // 1_000_000, "series": series, "step": step, "values": values}
            self._file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Let readers see every line so far."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()


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
