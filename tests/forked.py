"""Stages in processes of their own that cost milliseconds: each is a fork of one that has torch loaded.

Whatever runs here is what `python -m pipeline STAGE` runs, and may be killed at any moment.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SECONDS = 600
"""That a process may take; on a busy machine one that takes a second may take a minute."""


class Ended(NamedTuple):
    """How a process ended."""

    status: int
    """Negative: by this signal."""
    words: str


class Forked:
    """A process at work in a folder."""

    def __init__(self, folder: Path, work: Callable[[], int], **variables: str) -> None:
        """Begin.

        Args:
            folder: that it works in.
            work: a function of a module, or a `functools.partial` of one; what it returns is the exit status.
            variables: of its environment, beside those of this process.
        """
        self._said, says = _context().Pipe(duplex=False)  # which no limit on files touches
        self.process: BaseProcess = _context().Process(target=_child, args=(folder, says, work, variables))
        self.process.start()
        says.close()

    def ended(self, seconds: float = SECONDS) -> Ended:
        """Wait for it."""
        self.process.join(seconds)
        status = self.process.exitcode
        if status is None:
            self.process.kill()
            self.process.join()
        with os.fdopen(os.dup(self._said.fileno()), encoding="utf-8") as said:
            words = said.read()
        assert status is not None, f"it still ran after {seconds} s: {words}"
        return Ended(status, words)

    def killed_after(self, seconds: float) -> Ended:
        """Let it work so long, unless it ends before, and kill it."""
        self.process.join(seconds)
        self.process.kill()
        return self.ended()


def stage(name: str) -> int:
    """`python -m pipeline NAME`."""
    from pipeline.__main__ import main

    return main([name])


@cache
def _context() -> ForkServerContext:
    """Of the process that forks, which is started once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["forked_libraries"])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))  # it is told of no other path
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return context


def _child(folder: Path, says: Connection, work: Callable[[], int], variables: dict[str, str]) -> None:
    for stream in (1, 2):
        os.dup2(says.fileno(), stream)
    says.close()
    os.chdir(folder)
    os.environ |= variables
    try:
        status = work()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
