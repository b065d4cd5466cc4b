"""Work for which the disk is full: from the moment on at which it opens a file, none may have more than so many bytes.

The limit is the kernel's, and stays with the process: fork one for it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

TEMPORARY = re.compile(r"\.(?P<name>[^/]+?)(\.[0-9]+)?\.tmp(?P<kind>\.npy)?(?=/|$)")
"""The name that a file or folder will have once it is whole."""
IDENTITY = re.compile(r"[0-9a-f]{16,}|(?<=\.uploading\.)\w+")
"""What differs from run to run."""
SMALLEST = 2
"""Bytes of a file that is not there any more in the end, at least."""


def noting(work: Callable[[], int], note: Path) -> int:
    """Do the work, and note which files of the current folder it opens to write, in order, and how large they are."""
    opened: dict[str, Path] = {}

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "os.rename" and (path := _written(event, arguments)) and not path.startswith(("..", "/")):
            opened.setdefault(nameless(path), Path(path))

    sys.addaudithook(hear)
    status = work()
    sizes = {name: path.stat().st_size if path.is_file() else SMALLEST for name, path in opened.items()}
    note.write_text(json.dumps({name: size for name, size in sizes.items() if size}))  # the others are locks
    return status


def limited(work: Callable[[], int], name: str, limit: int) -> int:
    """Do the work with no room for the file `name`, see `no_room`."""
    with no_room(name, limit):
        return work()


@contextmanager
def no_room(name: str, limit: int) -> Iterator[None]:
    """From when the file `name` is opened to write, or gets its name, no file may have more than `limit` bytes."""
    _listen()
    _wanted[:] = [(name, limit)]
    try:
        yield
    finally:
        _wanted.clear()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


_wanted: list[tuple[str, int]] = []


@cache
def _listen() -> None:
    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if _wanted and (path := _written(event, arguments)) and nameless(path) == _wanted[0][0]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (_wanted[0][1], resource.RLIM_INFINITY))

    sys.addaudithook(hear)  # which nothing takes away again


def nameless(path: str) -> str:
    """A path, or words with one, as they are in every run."""
    return IDENTITY.sub("ID", path)


def _written(event: str, arguments: tuple[Any, ...]) -> str:
    """The file that is opened to be written, or gets this name, or a database; relative to the current folder."""
    if event == "sqlite3.connect":
        return _final(str(arguments[0]).removeprefix("file:").partition("?")[0])
    if event == "os.rename":
        return _final(arguments[1])
    if event != "open" or not isinstance(arguments[0], str | bytes):
        return ""
    path, mode, flags = arguments
    writes = any(letter in mode for letter in "wax+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR))
    return _final(path) if writes else ""


def _final(path: str | bytes | os.PathLike[str]) -> str:
    return TEMPORARY.sub(lambda found: found["name"] + (found["kind"] or ""), os.path.relpath(os.fsdecode(path)))
