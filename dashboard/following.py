"""A thread beside the page: silence becomes a no, answers on Prefect's page are heard, and everybody is told."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from flows.decisions.follow import Follower

EVERY = 3.0
"""Seconds between two looks; each is one at a folder while nothing waits."""


class Following:
    """The thread; whoever has just decided something wakes it."""

    def __init__(self, root: Path) -> None:
        self._follower = Follower(root)
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="following", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping = True
        self._wake.set()
        self._follower.stop()

    def wake(self) -> None:
        """Something was decided here: look now."""
        self._follower.at_once()
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                for line in self._follower.look():
                    logging.getLogger("dashboard").warning("%s", line)
            except Exception:  # whatever is wrong with a file or a server, the next look may fare better
                logging.getLogger("dashboard").exception("Looking after decisions failed.")
            self._wake.wait(EVERY)
