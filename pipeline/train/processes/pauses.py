"""After which steps a training looks up: to read losses, to save, to see whether it is asked to stop."""

from __future__ import annotations

import time

from pipeline.train.processes.ranks import Ranks

FLUSH_SECONDS = 1.0
"""Between two pauses, about."""


class Pauses:
    """One process pauses when its clock says so. Several agree in each pause after how many steps the next one is: in
    between they ask each other nothing, and look up after the same step."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._since = time.monotonic()
        self._done = 0
        self._every = 1

    def now(self, wanted: bool, last: bool) -> bool:
        """Whether to pause after the step that was just done.

        Args:
            wanted: whether this process has a reason to.
            last: whether it was the last step of an epoch.
        """
        self._done += 1
        if self._ranks.count > 1:
            return last or self._done == self._every
        return wanted or last or time.monotonic() - self._since > FLUSH_SECONDS

    def agreed(self, due: bool, asked: bool) -> tuple[bool, bool]:
        """Begin a pause: whether a checkpoint is due, and whether any process is asked to stop."""
        seconds = max(time.monotonic() - self._since, 1e-3)
        # Twice as many at most: the first steps may take long, and what comes next even longer.
        every = min(2 * self._every, max(1, int(self._done * FLUSH_SECONDS / seconds)))
        due_now, asked_now, self._every = self._ranks.most(due, asked, every if self._ranks.first else 0)
        self._since, self._done = time.monotonic(), 0
        return bool(due_now), bool(asked_now)
