"""Runs and housekeeping take turns: nothing is freed while a run is at work, and no run begins while something is.

A run might take over a data set from DVC's cache that nothing names yet in its tree. So every run, in whichever tree,
holds the project's lock together with other runs, from before it looks at what is there until it has its record; what
frees holds it alone, from before it looks at what is needed until the last thing is gone. The kernel frees the lock
of whoever dies. Three more walls stand behind it, for runs of commits that know nothing of this lock and for plain
`dvc`: no run may be at work by its own lock, DVC's lock is held, and what was written within the last hour stays.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

from flows.alone import holder
from flows.housekeeping.cache import opened
from flows.repository import in_git
from flows.worktrees import HOME, LOCK, idle
from pipeline.errors import UserError
from pipeline.files import opened_lock, shared
from pipeline.registry import glances
from pipeline.registry.glances import SHOWN

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

TURNS = "housekeeping.lock"
"""Its name in the state that all trees of a project share."""


@contextmanager
def run_at_work() -> Iterator[None]:
    """Work on a run; while housekeeping frees something it is waited for."""
    with _lock() as lock:
        if not _taken(lock, fcntl.LOCK_SH):
            print("Housekeeping (`convoy gc`) is at work in this project; this run waits for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextmanager
def alone_in_project(root: Path) -> Iterator[None]:
    """Have the project to oneself.

    Args:
        root: the project, which is the current folder.

    Raises:
        UserError: a run or a DVC command is at work.
    """
    from dvc.lock import LockError

    with _lock() as lock:
        if not _taken(lock, fcntl.LOCK_EX):
            raise UserError(_busy("a run is at work in this project, or another `convoy gc`"))
        if working := at_work(root):
            raise UserError(_busy(working))
        repo = opened(root)
        dvc: AbstractContextManager[object] = repo.lock if repo else nullcontext()
        try:
            dvc.__enter__()
        except LockError:
            raise UserError(_busy("a DVC command is at work in this project")) from None
        try:
            yield
        finally:
            dvc.__exit__(None, None, None)


def at_work(root: Path) -> str:
    """What run is at work, in words, or nothing."""
    for run in glances.read_all():
        if run.state == "working":
            return f"run {run.id[:SHOWN]} is at work"
    if who := holder(root / LOCK):
        return f"a run is at work here ({who})"
    if in_git(root) and (held := {place.name for place in (root / HOME).glob("*")} - set(idle(root))):
        return f"a run is at work in {HOME / min(held)}"
    return ""


def _busy(why: str) -> str:
    return f"Nothing was freed: {why}. Run it again when that has ended."


def _lock() -> IO[str]:
    path = shared() / TURNS
    path.parent.mkdir(parents=True, exist_ok=True)
    return opened_lock(path)


def _taken(lock: IO[str], how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
