"""What a process that lives long does about decisions: the page and the worker look again and again."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from flows.decisions.settle import needed
from flows.decisions.watch import watch
from flows.servers import processes
from pipeline.files import STATE

AGAIN_SECONDS = 30.0
"""Between two tries to tell somebody who is away."""


class Follower:
    """Watches waiting cases, and has a child process tell everybody of what was decided: it imports MLflow."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._child: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0

    def look(self) -> list[str]:
        """Look once, in a moment; a line for each case that was decided."""
        lines = watch(self._project)
        if self._child and self._child.poll() is None:
            return lines
        if needed() and (lines or time.monotonic() >= self._not_before):
            self._not_before = time.monotonic() + AGAIN_SECONDS
            self._child = start(self._project)
        return lines

    def stop(self) -> None:
        """End the child: whoever starts next tells what it did not."""
        if self._child and self._child.poll() is None:
            self._child.terminate()
            self._child.wait()

    def at_once(self) -> None:
        """Something was decided here: tell it at the next look."""
        self._not_before = 0.0


def start(project: Path) -> subprocess.Popen[bytes]:
    """Tell everybody, in a process of its own, whose words go into `.convoy/logs/settle.log`."""
    log = project / STATE / "logs" / "settle.log"
    return processes.start(["-m", "flows.decisions.settle"], os.environ, project, log)[0]
