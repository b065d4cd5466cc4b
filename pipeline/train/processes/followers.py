"""What the processes beside the first one have in the place of files: the first one writes for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.journal import Journal
from pipeline.train.checkpoint import Checkpoints, Progress
from pipeline.train.machine import Machine
from pipeline.train.processes.ranks import Ranks
from pipeline.train.seen import SeenLog


class UnwrittenJournal(Journal):
    """A journal that nothing is noted in."""

    def __init__(self) -> None: ...

    def append(self, series: str, step: int, values: dict[str, float]) -> None:
        """See `Journal.append`."""

    def flush(self) -> None:
        """See `Journal.flush`."""

    def close(self) -> None:
        """See `Journal.close`."""


class UnwrittenLog(SeenLog):
    """A log of steps that nothing is noted in."""

    def __init__(self) -> None: ...

    def append(self, step: int, views: np.ndarray) -> None:
        """See `SeenLog.append`."""

    def flush(self) -> None:
        """See `SeenLog.flush`."""

    def cut(self, steps: int) -> None:
        """See `SeenLog.cut`."""

    def close(self) -> None:
        """See `SeenLog.close`."""


class Paths(NamedTuple):
    """Of checkpoints, as `Checkpoints` has them."""

    home: Path
    folder: Path
    journal: Path
    seen: Path
    first_step: int


def followed(ranks: Ranks, take: Callable[[], Checkpoints], environment: dict[str, str]) -> Checkpoints:
    """The checkpoints of a training: one process takes them, the others follow it."""
    if ranks.first:
        taken = take()
        ranks.agreed(Paths(taken.home, taken.folder, taken.journal, taken.seen, taken._first_step))
        return taken
    paths: Paths | None = ranks.agreed(None)
    assert paths is not None
    return FollowedCheckpoints(paths, environment)


class FollowedCheckpoints(Checkpoints):
    """The checkpoints of the first process as the others see them: read, and never changed.

    What they would hold is asked for all the same: where weights are shared out, each process has a part of it.
    """

    def __init__(self, paths: Paths, environment: dict[str, str]) -> None:
        """Of the folder that the first process has taken."""
        self.home, self.folder, self.journal, self.seen, self._first_step = paths
        self.environment = environment

    def save(self, machine: Machine, progress: Progress) -> None:
        """See `Checkpoints.save`."""
        machine.state()

    def keep_best(self, machine: Machine, epoch: int) -> None:
        """See `Checkpoints.keep_best`."""
        machine.weights()

    def wait(self) -> None:
        """See `Checkpoints.wait`."""

    def due(self, seconds: float) -> bool:
        """See `Checkpoints.due`: the first process says when."""
        return False

    def finish(self) -> None:
        """See `Checkpoints.finish`."""

    def clear(self) -> None:
        """See `Checkpoints.clear`."""

    def close(self) -> None:
        """See `Checkpoints.close`."""

    def _shift(self) -> None:
        """The first process has done so."""
