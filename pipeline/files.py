"""Writing files so that a reader finds the old one or the new one, whole, and nothing in between."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from pipeline.room import explained

DATASET = Path("out/dataset")
"""What `ingest` leaves. It stands here, so that finding nothing to do costs no import of pyarrow."""

STATE = Path(".convoy")
"""What a working tree keeps beside its outputs. Relative to the project's root in that tree."""

PROJECT = STATE / "project"
"""In a worktree that was made for one run, a link to the project that it was made from."""

SHARED = STATE / "shared"
"""In such a worktree, a link to the project's state; one that proves a run has none, so that nothing is taken over."""


def project() -> Path:
    """The project that this working tree belongs to: itself, or the one that a run's worktree was made from."""
    return PROJECT.resolve() if in_worktree() else Path()


def in_worktree() -> bool:
    """Whether this tree was made for one run, and goes when that has ended."""
    return PROJECT.is_symlink()


def shared() -> Path:
    """What all working trees of the project keep together: records, ledger, databases, checkpoints, caches."""
    return SHARED.resolve() if SHARED.is_symlink() else STATE


@contextmanager
def replacing(path: Path, needed: int = 0) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; on success it is flushed to disk and takes that name.

    Args:
        path: of the file.
        needed: bytes that it will have, if they are known.

    Raises:
        UserError: the disk is full; `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise explained(error, path, needed) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def creating(path: Path, needed: int = 0) -> Iterator[BinaryIO]:
    """Open a new file in a folder that is itself temporary, as `replacing_folder` gives it.

    Args:
        path: of the file.
        needed: bytes that it will have, if they are known.

    Raises:
        UserError: the disk is full.
    """
    try:
        with path.open("wb") as file:
            yield file
    except OSError as error:
        raise explained(error, path, needed) from error


def opened_lock(path: Path) -> IO[str]:
    """A lock file, made where it is missing, for everybody who can write in its folder: several users may take turns.

    It is open for reading and for writing: NFS grants a shared lock to readers only, and one of its own to writers.
    """
    flags = os.O_RDWR | os.O_APPEND
    try:
        handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:  # and without O_CREAT: where all can write, Linux keeps that to the owner of the file
        handle = os.open(path, flags)
    else:
        os.fchmod(handle, path.parent.stat().st_mode & 0o666)
    return os.fdopen(handle, "a+")


class Grown:
    """A file that grows at its end: what is added is there whole, or not at all."""

    def __init__(self, path: Path, end: int) -> None:
        """Open it, and cut off what is after byte `end`."""
        self._path, self._end = path, end
        self._file = path.open("ab", buffering=0)
        self._file.truncate(end)

    def add(self, data: bytes) -> None:
        """Append.

        Raises:
            UserError: the disk is full; the file is as it was.
        """
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
        except OSError as error:
            self._file.truncate(self._end)
            raise explained(error, self._path, self._end + len(data)) from error
        self._end += len(data)

    def cut(self, end: int) -> None:
        """Remove what is after byte `end`."""
        self._file.truncate(end)
        self._end = end

    def close(self) -> None:
        """Close it."""
        self._file.close()


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`."""
    with replacing(path, len(data)) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON: sorted keys, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Replace `path` by a table as CSV."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, table.getvalue())


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place on success; what was there before is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    old = path.with_name(f".{path.name}.old")
    _clear_up(path, temporary, old)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise explained(error, path) from error
    finally:
        _clear_up(path, temporary, old)


def _clear_up(path: Path, temporary: Path, old: Path) -> None:
    if old.exists() and not path.exists():  # stopped between the two renames
        old.rename(path)
    for leftover in (temporary, old):
        shutil.rmtree(leftover, ignore_errors=True)


def code_digest() -> str:
    """sha256 over every module of this package: what a result depends on beside params and data."""
    digest = hashlib.sha256()
    home = Path(__file__).parent
    for path in sorted(home.rglob("*.py")):
        digest.update(path.relative_to(home).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Make what was written to a file survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
