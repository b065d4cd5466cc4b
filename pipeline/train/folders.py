"""The folders of trainings: each is named by all that the training learns from, and one process at a time has it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import shutil
from pathlib import Path
from typing import IO

from pipeline.files import code_digest
from pipeline.journal import trainings

LOCK = "lock"
KEPT_TRAININGS = 3
"""Folders kept in all; those longest untouched are removed."""


def training_key(*about: str) -> str:
    """The digest of everything that a training learns from, this package's code included.

    A checkpoint of other code, data or params is thereby another training's, and never continued.
    """
    digest = hashlib.sha256()
    for text in (code_digest(), *about):
        digest.update(f"{len(text)}:{text}".encode())
    return digest.hexdigest()[:32]


def claimed(key: str) -> tuple[Path, IO[str]]:
    """The folder of a training, and the lock on it that the kernel frees with this process.

    Two trees may train the same at the same time: the second one takes a folder of its own.
    """
    for number in itertools.count(1):
        folder = trainings() / (key if number == 1 else f"{key}-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        for left in folder.rglob(".*.tmp"):  # of a process that was killed while it wrote
            remove(left)
        return folder, lock
    raise AssertionError


def remove_old_trainings() -> None:
    """Remove the checkpoints of all trainings but the latest few."""
    folders = sorted((path for path in trainings().iterdir() if path.is_dir()), key=_touched)
    for path in folders[:-KEPT_TRAININGS]:
        with (path / LOCK).open("a") as lock, contextlib.suppress(BlockingIOError):  # another tree's, at work
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)


def _touched(folder: Path) -> float:
    """When a training last wrote a checkpoint, in seconds since 1970: a member of an ensemble writes it in a folder."""
    return max(path.stat().st_mtime for path in (folder, *filter(Path.is_dir, folder.iterdir())))


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
