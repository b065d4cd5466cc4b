"""What can be freed, in groups of one kind that are freed together."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Group:
    """Things of one kind that nobody needs."""

    what: str
    why: str
    """Nobody needs them."""
    names: Sequence[str]
    bytes: int
    """On the disks that this machine sees."""
    free: Callable[[], None] = field(repr=False)
    """Deletes them; what is gone already is no error, so that it can be called again."""


def of_paths(what: str, why: str, paths: Iterable[Path]) -> Group:
    """Files and folders."""
    found = sorted(paths)
    return Group(what, why, [path.name for path in found], sum(map(size, found)), lambda: _remove_all(found))


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    try:
        if not path.is_dir() or path.is_symlink():
            return path.lstat().st_size
        return sum(size(Path(entry.path)) for entry in os.scandir(path))
    except FileNotFoundError:  # gone meanwhile
        return 0


def changed(path: Path) -> float:
    """When a file, or the newest file in a folder, was last written; seconds since 1970."""
    try:
        here = path.lstat().st_mtime
        if not path.is_dir() or path.is_symlink():
            return here
        return max((changed(Path(entry.path)) for entry in os.scandir(path)), default=here)
    except FileNotFoundError:
        return 0.0


def remove(path: Path) -> None:
    """A file or a folder; one that is gone is no error. A link goes, what it leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=False)
    else:
        path.unlink(missing_ok=True)


def _remove_all(paths: Iterable[Path]) -> None:
    for path in paths:
        remove(path)
