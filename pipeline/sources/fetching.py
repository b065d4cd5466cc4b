"""Archives from elsewhere: fetched once, checked, and kept beside the project.

A download that breaks, or that is stopped or killed, goes on where it was. It takes its name once it is whole, so that
whoever reads finds nothing or all of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import TemporaryFailure, UserError
from pipeline.files import STATE, sha256_of, shared, sync_folder
from pipeline.progress import track
from pipeline.room import explained
from pipeline.sources.base import Limits
from pipeline.sources.store import Blob, Passing

PAUSES = (1.0, 4.0, 15.0)
"""Seconds before each further try, after one that brought nothing."""
IDLE_SECONDS = 7 * 86_400
"""So long an older version that nobody opens stays."""
MEGABYTE = 1_000_000


class _Unlike(Exception):
    """What came is not what was promised."""


def home() -> Path:
    """Where archives are kept: beside the project, or in the user's cache where there is no project here."""
    if STATE.is_dir() or Path("dvc.yaml").is_file():
        return shared() / "sources"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "convoy" / "sources"


def fetched(blob: Blob, limits: Limits) -> Path:
    """The file on disk that holds a blob; it is fetched if it is not there.

    Raises:
        UserError: it cannot be had, is too large, or is another than its checksum says.
    """
    if copy := blob.copy():
        return copy
    of_address = hashlib.sha256(blob.address.encode()).hexdigest()[:16]
    path = home() / f"{of_address}-{hashlib.sha256(blob.version.encode()).hexdigest()[:16]}"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _fetch(blob, path, limits)
            _tidy(path, of_address)
        except OSError as error:
            raise explained(error, path) from error
    with suppress(OSError):
        os.utime(path)  # the time of the last use
    return path


def _fetch(blob: Blob, path: Path, limits: Limits) -> None:
    """Complete the part that is there, if any. Of several processes one fetches, and the others wait for it."""
    part = path.with_name(path.name + ".part")
    with part.open("a+b") as file:
        _lock(file, blob)
        if path.exists():  # another process has fetched it meanwhile
            part.unlink(missing_ok=True)
            return
        resumed = file.seek(0, os.SEEK_END) > 0
        try:
            _complete(blob, file, limits)
            _check(blob, part)
        except _Unlike as unlike:
            file.truncate(0)
            if not resumed:
                raise UserError(str(unlike)) from None
            _complete(blob, file, limits)  # what was there may have been of another file
            try:
                _check(blob, part)
            except _Unlike as again:
                file.truncate(0)
                raise UserError(str(again)) from None
        os.fsync(file.fileno())
        part.rename(path)
        sync_folder(path.parent)


def _lock(file: BinaryIO, blob: Blob) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"Another process is fetching {blob.shown}; waiting for it.", file=sys.stderr, flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)


def _complete(blob: Blob, file: BinaryIO, limits: Limits) -> None:
    """Append what is missing, and try again after a break as long as that may help."""
    with track(f"fetching {blob.shown} (MB)") as advance:
        pauses = list(PAUSES)
        while True:
            before = file.seek(0, os.SEEK_END)
            try:
                _append(blob, file, limits, _in_megabytes(advance))
                return
            except Passing as passing:
                if file.seek(0, os.SEEK_END) > before:
                    pauses = list(PAUSES)
                if not pauses:
                    raise TemporaryFailure(
                        f"{blob.shown} cannot be fetched: {passing}. What has come is kept; run the same command again."
                    ) from None
                time.sleep(pauses.pop(0))


def _append(blob: Blob, file: BinaryIO, limits: Limits, advance: Callable[[int], None]) -> None:
    at = file.seek(0, os.SEEK_END)
    total: int | None = None
    for start, whole, data in blob.chunks(at):
        if whole is not None and whole != total:
            total = whole
            _check_size(blob, total, limits, file)
        if start != at:
            at = start
            file.truncate(start)
        at += len(data)
        _check_size(blob, at, limits)
        if total is not None and at > total:
            raise _Unlike(f"{blob.shown}: the server promised {total:,} bytes and sends more. Is the address right?")
        file.write(data)  # the file is open for appending: it goes to the end, which is where `at` was
        advance(len(data))
    file.flush()
    if total is not None and at < total:
        raise Passing(f"the server promised {total:,} bytes and sent {at:,}")


def _check_size(blob: Blob, size: int, limits: Limits, file: BinaryIO | None = None) -> None:
    if size > limits.total_bytes:
        raise UserError(f"{blob.shown}: {size:,} bytes; the limit is {limits.total_bytes:,}. Make the source smaller.")
    if file:
        needed = size - file.seek(0, os.SEEK_END)
        free = shutil.disk_usage(file.name).free
        if needed > free:
            raise TemporaryFailure(
                f"{blob.shown} has {size / 1e6:,.0f} MB, {needed / 1e6:,.0f} of them still to come, and only "
                f"{free / 1e6:,.0f} MB are free in {Path(file.name).parent}. Make room and run the same command again."
            )


def _check(blob: Blob, part: Path) -> None:
    if blob.sha256 and (found := sha256_of(part)) != blob.sha256:
        raise _Unlike(
            f"{blob.shown} is not the file that you expect: its sha256 is\n  {found}, and data.path says\n"
            f"  {blob.sha256}. Ask whoever made it; if it was replaced on purpose, write the first one."
        )
    if not blob.sha256 and blob.changed():
        raise _Unlike(f"{blob.shown} was replaced while it was fetched. Run the same command again.")


def _in_megabytes(advance: Callable[[int], None]) -> Callable[[int], None]:
    rest = 0

    def add(count: int) -> None:
        nonlocal rest
        whole, rest = divmod(rest + count, MEGABYTE)
        advance(whole)

    return add


def _tidy(path: Path, of_address: str) -> None:
    """Remove older versions of the same file, and what was left of their downloads, if nobody has used them lately."""
    for other in path.parent.glob(f"{of_address}-*"):
        with suppress(OSError):
            if other != path and time.time() - other.stat().st_mtime > IDLE_SECONDS:
                other.unlink()
