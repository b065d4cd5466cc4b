"""A folder on disk. A link to a file is followed while its target lies within the folder; a link to a folder is not,
so that no walk runs in circles."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.contracts import LeftOut
from pipeline.errors import UserError
from pipeline.sources.base import Entry, Source, fault, printable


@dataclass(frozen=True)
class FolderSource(Source):
    """The files below a folder."""

    path: Path

    def entries(self) -> Iterator[Entry | LeftOut]:
        for count, entry in enumerate(self._walk(), start=1):
            self._limit(count, self.limits.files, "files")
            yield entry

    def stream(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes] | LeftOut]:
        total, left = 0, set(wanted)
        for entry in self.entries():
            if entry.name not in left:
                continue
            left.discard(entry.name)
            if isinstance(entry, LeftOut):  # it has changed since it was listed
                yield entry
                continue
            try:
                with (self.path / entry.name).open("rb") as file:
                    data = file.read(self.limits.file_bytes + 1)
            except OSError as error:
                yield LeftOut(entry.name, f"cannot be read: {error.strerror}")
                continue
            total += len(data)
            self._limit(max(entry.size, len(data)), self.limits.file_bytes, f"bytes in {entry.name}")
            self._limit(total, self.limits.total_bytes, "bytes in all")
            yield entry, data
        yield from self._gone(left)

    def heads(self, wanted: Collection[str], size: int) -> Iterator[tuple[str, bytes]]:
        for name in sorted(wanted):
            with suppress(OSError, ValueError):
                path = self.path / name
                if path.resolve().is_relative_to(self.path.resolve()) and path.is_file():
                    with path.open("rb") as file:
                        yield name, file.read(size)

    def fingerprint(self) -> Iterator[str]:
        for entry in self.entries():
            yield "\t".join(map(str, (entry.name, entry.reason) if isinstance(entry, LeftOut) else entry[:3]))

    def _walk(self) -> Iterator[Entry | LeftOut]:
        """In the order of names. Folders may lie within each other deeper than functions can call each other."""
        root = self.path.resolve()
        waiting = [("", item) for item in _inside(self.path)]
        while waiting:
            prefix, item = waiting.pop()
            name = prefix + item.name
            if item.is_dir(follow_symlinks=False):
                waiting += [(name + "/", inner) for inner in _inside(self.path / name)]
            elif reason := fault(name):
                yield LeftOut(printable(name), reason)
            else:
                yield _found(item, name, root)


def _inside(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, the first name last."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda item: item.name, reverse=True)
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be read: {error.strerror}. Grant access or move it.") from None


def _found(item: os.DirEntry[str], name: str, root: Path) -> Entry | LeftOut:
    try:
        facts = item.stat()
        if item.is_symlink() and not Path(item.path).resolve().is_relative_to(root):
            return LeftOut(name, "a link that leads out of the source; put the file itself there")
    except OSError as error:  # a link to nowhere or to itself; a file that has just gone
        return LeftOut(name, f"cannot be read: {error.strerror}")
    if stat.S_ISDIR(facts.st_mode):
        return LeftOut(name, "a link to a folder; these are not followed")
    if not stat.S_ISREG(facts.st_mode):
        return LeftOut(name, "a device or a pipe")
    return Entry(name, facts.st_size, facts.st_mtime_ns)
