"""What the processes beside the first one have in the place of files: the first one writes for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from pipeline.train.checkpoint import Checkpoints
from pipeline.train.generations import CheckpointFolder
from pipeline.train.machine import Machine
from pipeline.train.processes.ranks import Ranks
from pipeline.train.saved import Progress


class Notes(Protocol):
    """Where a training notes what it measures: a `Journal`, or nowhere."""

    def append(self, series: str, step: int, values: dict[str, float]) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class SeenNotes(Protocol):
    """Where it notes what its steps have seen: a `SeenLog`, or nowhere."""

    def append(self, step: int, views: np.ndarray) -> None: ...
    def flush(self) -> None: ...
    def cut(self, steps: int) -> None: ...
    def close(self) -> None: ...


class Unwritten:
    """Where the others note what they measure: nowhere."""

    def append(self, series: str, step: int, values: dict[str, float]) -> None:
        """See `Journal.append`."""

    def flush(self) -> None:
        """See `Journal.flush`."""

    def close(self) -> None:
        """See `Journal.close`."""


class UnwrittenSeen:
    """Likewise of what their steps have seen."""

    def append(self, step: int, views: np.ndarray) -> None:
        """See `SeenLog.append`."""

    def flush(self) -> None:
        """See `SeenLog.flush`."""

    def cut(self, steps: int) -> None:
        """See `SeenLog.cut`."""

    def close(self) -> None:
        """See `SeenLog.close`."""


class Taken(NamedTuple):
    """What the others are told of checkpoints, as `CheckpointFolder` has it."""

    home: Path
    folder: Path
    journal: Path
    seen: Path
    environment: dict[str, str]


def followed(ranks: Ranks, take: Callable[[], Checkpoints]) -> CheckpointFolder:
    """The checkpoints of a training: one process takes them, the others follow it.

    Whether a training was begun elsewhere goes by what the first one computes on: GPUs beside each other may differ.
    """
    if ranks.first:
        mine = take()
        ranks.agreed(Taken(mine.home, mine.folder, mine.journal, mine.seen, mine.environment))
        return mine
    taken: Taken | None = ranks.agreed(None)
    assert taken is not None
    return FollowedCheckpoints(taken)


class FollowedCheckpoints(CheckpointFolder):
    """The checkpoints of the first process as the others see them: read, and never changed.

    What they would hold is asked for all the same: where weights are shared out, each process has a part of it.
    """

    def __init__(self, taken: Taken) -> None:
        """Of the folder that the first process has taken."""
        self.home, self.folder, self.journal, self.seen, self.environment = taken

    def save(self, machine: Machine, progress: Progress) -> None:
        """See `CheckpointFolder.save`."""
        machine.state()

    def keep_best(self, machine: Machine, epoch: int) -> None:
        """See `CheckpointFolder.keep_best`."""
        machine.weights()

    def wait(self) -> None:
        """See `CheckpointFolder.wait`."""

    def due(self, seconds: float) -> bool:
        """See `CheckpointFolder.due`: the first process says when."""
        return False

    def finish(self) -> None:
        """See `CheckpointFolder.finish`."""

    def clear(self) -> None:
        """See `CheckpointFolder.clear`."""

    def close(self) -> None:
        """See `CheckpointFolder.close`."""
