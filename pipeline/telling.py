"""From a network's raw outputs, batch by batch, to what they say of whole pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.contracts import TaskConfig, Views


class Held:
    """Outputs of the views of N pictures; those of a picture are let go as soon as it is read whole.

    Maps of every pixel and class of a whole split do not fit into memory; what is told of them does.
    """

    def __init__(self, task: TaskConfig, seen: Views) -> None:
        """For outputs that come in the order of the views."""
        self.told: list[Any] = []
        """What the task makes of the pictures that are complete, in their order."""
        self._task = task
        self._seen = seen
        self._waiting: list[np.ndarray] = []
        self._first = 0
        """The first view that is waiting."""

    def add(self, outputs: np.ndarray) -> None:
        """Take the outputs of the next views, float32 [v, ...]."""
        self._waiting.append(outputs)
        arrived = self._first + sum(map(len, self._waiting))
        done = int(np.searchsorted(self._seen.images, len(self.told)))
        whole = self._seen.images[arrived] if arrived < len(self._seen.images) else len(self._seen.sizes)
        end = int(np.searchsorted(self._seen.images, whole))
        if end <= done:
            return
        held = np.concatenate(self._waiting)
        ready, left = held[: end - self._first], held[end - self._first :]
        part = Views(
            self._seen.images[done:end] - len(self.told),
            self._seen.regions[done:end],
            self._seen.sizes[len(self.told) : whole],
            self._seen.side,
        )
        self.told += self._task.told(ready, part)
        self._waiting, self._first = ([left] if len(left) else []), end
