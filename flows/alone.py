"""One run at a time, in a tree and on a device, by locks that the kernel frees when their holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.errors import UserError
from pipeline.files import opened_lock

GLANCE = 0.1
"""Seconds; whoever only looks who holds a lock has let it go by then."""
LOCKS = "CONVOY_LOCKS"
"""Variable that names the folder of the devices' locks: one that several users can write to makes them take turns."""


@contextmanager
def alone(lock_file: Path, wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock; while another process does, `wait` is called once with who that is.

    A lock file and not Prefect's limits: those leak when a holder dies, and stick.
    """
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = opened_lock(lock_file)
    except OSError as error:
        raise UserError(
            f"{lock_file} cannot be locked: {error.strerror}. Give yourself the right to write it."
        ) from None
    with lock:
        if not _taken(lock):
            time.sleep(GLANCE)
            if not _taken(lock):
                lock.seek(0)
                wait(lock.read().strip())
                fcntl.flock(lock, fcntl.LOCK_EX)
        _name_holder(lock, f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        try:
            yield
        finally:
            _name_holder(lock, "")


def holder(lock_file: Path) -> str | None:
    """Who holds the lock, or None when nobody does."""
    try:
        with lock_file.open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip() or "another process"
    except (FileNotFoundError, NotADirectoryError):
        pass
    return None


def of_device(identity: str) -> Path:
    """The lock of a device of this machine, for all projects of this user.

    Args:
        identity: from `pipeline.devices.identity`.
    """
    given = os.environ.get(LOCKS)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(given) if given else cache / "convoy" / "locks") / f"{identity}.lock"


def _name_holder(lock: IO[str], holder: str) -> None:
    """Let others read who holds the lock; where the disk is full they cannot, and it is held all the same."""
    with suppress(OSError):
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), holder.encode())


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
