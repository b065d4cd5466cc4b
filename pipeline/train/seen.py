"""Which views every step learnt from: the evidence that none was learnt from twice, or forgotten, whatever was killed.

seen.bin   step, count, position, position, ... of one step after the other, int32
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.files import Grown

SEEN = "seen.bin"
HEADER = 2
"""Numbers of a record before its positions."""


class Seen(NamedTuple):
    """What one step learnt from."""

    step: int
    """Of the whole training, 0-based."""
    views: np.ndarray
    """Positions in the training split, as `Material` has it: int32 [B]."""


class SeenLog:
    """An open log; records are buffered until `flush`."""

    def __init__(self, path: Path, steps: int) -> None:
        """Open it and keep the first `steps` records: those after them are of steps that are computed again."""
        self.path = path
        self._file = Grown(path, _end(path, steps))
        self._unwritten: list[np.ndarray] = []

    def append(self, step: int, views: np.ndarray) -> None:
        """Note what a step learnt from, integers [B]."""
        record = np.empty(HEADER + len(views), np.int32)
        record[0], record[1], record[HEADER:] = step, len(views), views
        self._unwritten.append(record)

    def flush(self) -> None:
        """Let readers see every record so far.

        Raises:
            UserError: the disk is full; what was there before still is.
        """
        if self._unwritten:
            self._file.add(np.concatenate(self._unwritten).tobytes())
            self._unwritten = []

    def cut(self, steps: int) -> None:
        """Keep the first `steps` records."""
        self.flush()
        self._file.cut(_end(self.path, steps))

    def close(self) -> None:
        """Close it; what was not flushed is gone."""
        self._file.close()


def read(path: Path) -> Iterator[Seen]:
    """Every whole record, in order."""
    numbers, at = _numbers(path), 0
    while at + HEADER <= len(numbers) and (end := at + HEADER + int(numbers[at + 1])) <= len(numbers):
        yield Seen(int(numbers[at]), numbers[at + HEADER : end])
        at = end


def steps_in(path: Path) -> int:
    """How many steps are noted without a gap, from the first on."""
    done = 0
    for record in read(path):
        if record.step != done:
            break
        done += 1
    return done


def _numbers(path: Path) -> np.ndarray:
    try:
        return np.fromfile(path, np.int32)
    except FileNotFoundError:
        return np.empty(0, np.int32)


def _end(path: Path, steps: int) -> int:
    """The byte after the first `steps` records."""
    records = (record for record in read(path) if record.step < steps)
    return sum((HEADER + len(record.views)) * np.dtype(np.int32).itemsize for record in records)
