"""A disk that is full or closed, in words: what could not be written, how much room it needs, and what to do next."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import sqlite3
from pathlib import Path

from pipeline.errors import TemporaryFailure

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk, a quota and a limit on files that leave no room."""
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of a file that belongs to somebody else, and of a disk that is there for reading alone."""
DATABASE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)
"""The same, as SQLite tells of them."""
DATABASE_CLOSED = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
"""Likewise, of a file that belongs to somebody else."""
TEMPORARY = re.compile(r"^\.(.+)\.tmp$")
"""The name of a folder until it is whole; see `pipeline.files.replacing_folder`."""


def explained(error: OSError, path: Path, needed: int = 0) -> Exception:
    """A full disk in words that say where, how much and what next; any other error as it is.

    Args:
        error: of writing.
        path: that was to be written.
        needed: bytes of that file, if they are known.
    """
    if error.errno not in FULL:
        return error
    path = Path(*(TEMPORARY.sub(r"\1", part) for part in path.parts))
    wanted = f"it needs {needed:,} bytes, and " if needed else ""
    return TemporaryFailure(
        f"No room to write {path}: {wanted}{_room(error.errno, path)}. Nothing half-written is left; "
        "make room and run the same command again."
    )


def full(error: BaseException | None) -> str:
    """The system's words where a full disk, a quota or a limit is behind an error, however wrapped; else nothing."""
    while error:
        if isinstance(error, OSError) and error.errno in FULL:
            return f"{os.strerror(error.errno)}{f': {error.filename}' if error.filename else ''}"
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) in DATABASE_FULL:
            return str(error)
        error = error.__cause__ or error.__context__
    return ""


def closed(error: BaseException | None) -> str:
    """The system's words where a right that is missing, or a disk that is read-only, is the error; else nothing."""
    while error:
        if isinstance(error, OSError) and error.errno in CLOSED and error.filename:
            return f"{os.strerror(error.errno)}: {error.filename}"
        error = error.__cause__
    return ""


def explained_database(error: sqlite3.Error, path: Path) -> TemporaryFailure | None:
    """A full disk under a SQLite file in words, as `explained` has them, or one that is closed; None: another error."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF in DATABASE_CLOSED and path.exists():
        return TemporaryFailure(
            f"{path}: {error}. Nothing of it is lost: give yourself the right to write it and in its folder, then run "
            "the same command again."
        )
    if code not in DATABASE_FULL:
        return None
    limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    told = explained(OSError(errno.EFBIG if limited else errno.ENOSPC, ""), path)
    assert isinstance(told, TemporaryFailure)
    return told


def _room(number: int, path: Path) -> str:
    if number == errno.EFBIG:
        return f"no file may have more than {resource.getrlimit(resource.RLIMIT_FSIZE)[0]:,} bytes here (ulimit -f)"
    place = next(folder for folder in path.absolute().parents if folder.exists())
    free = f"{shutil.disk_usage(place).free:,} are free there"
    return f"{free}, but your quota is used up" if number == errno.EDQUOT else free
