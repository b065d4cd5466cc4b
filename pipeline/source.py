"""A folder or an archive as one thing: the names in it, and the contents of its files in a single pass.

An archive is hostile until read. Its members are read one by one and never unpacked to disk; only regular files count;
a name is a label and never a path; sizes, counts and the ratio of compression have limits. In a folder a link to a file
is followed while its target lies within the folder; a link to a folder is not, so that no walk runs in circles.
"""

from __future__ import annotations

import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.contracts import LeftOut
from pipeline.errors import UserError
from pipeline.files import project

if TYPE_CHECKING:
    from pipeline.archives import Member

KINDS = "a folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz"
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # controls, line ends, bytes not UTF-8
MAX_NAME = 1000


@dataclass(frozen=True)
class Limits:
    """What a source may cost; beyond it stands an error, not a full disk."""

    file_bytes: int = 256_000_000
    total_bytes: int = 1_000_000_000_000
    files: int = 5_000_000
    ratio: int = 200
    """Unpacked to packed bytes of a whole archive; pictures come to about 1, blank bitmaps to 100."""
    free_bytes: int = 100_000_000
    """Up to so many unpacked bytes the ratio does not matter."""


class Entry(NamedTuple):
    """One file of a source."""

    name: str
    """With forward slashes, relative to the source."""
    size: int
    modified_ns: int
    """0 within an archive, where the time of the archive counts."""
    checksum: int = 0
    """Of the contents, in a zip; else 0."""


@dataclass(frozen=True)
class Source(ABC):
    """Where pictures come from."""

    path: Path
    limits: Limits

    @abstractmethod
    def entries(self) -> Iterator[Entry | LeftOut]:
        """Every file once, without its contents; no name twice.

        Raises:
            UserError: the source is damaged or beyond a limit.
        """

    @abstractmethod
    def stream(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes] | LeftOut]:
        """The contents of the files named in `wanted`, each once, in one pass.

        Raises:
            UserError: the source is damaged or beyond a limit.
        """

    @abstractmethod
    def fingerprint(self) -> Iterator[str]:
        """`name, size, time` of each file of a folder, or of the archive: equal lines, equal contents."""

    def _limit(self, found: int, limit: int, what: str) -> None:
        if found > limit:
            raise UserError(f"{self.path}: {found:,} {what}; the limit is {limit:,}. Make the source smaller.")


def open_source(path: str, limits: Limits | None = None) -> Source:
    """The source at `path`, by what is there and not by its suffix; `~` is your home, a relative path the project's.

    Raises:
        UserError: nothing is there, it may not be read, or it is neither a folder nor an archive.
    """
    limits = limits or Limits()
    try:
        place = placed(Path(path).expanduser())
        if place.is_dir():
            return FolderSource(place, limits)
        if place.exists() and not place.is_file():
            raise ValueError("it is a device or a pipe")
        with place.open("rb") as file:
            head = file.read(512)
    except (OSError, RuntimeError, ValueError) as error:  # no such user in `~user`; a NUL in the path
        reason = "it does not exist" if isinstance(error, FileNotFoundError) else str(error)
        raise UserError(f"data.path: {path!r} cannot be read: {reason}. Expected {KINDS}.") from None
    kind = _kind(head)
    if kind is None:
        raise UserError(f"data.path: {path!r} is no archive: it {_looks(head)}. Expected {KINDS}.")
    return ArchiveSource(place, limits, kind)


def placed(path: Path) -> Path:
    """Where a relative path leads: in this tree, or where git does not bring it along, in the project it is of."""
    return path if path.exists() else project() / path


def _kind(head: bytes) -> str | None:
    """`zip`, or the compression of a tar; None if it is neither."""
    from pipeline.archives import COMPRESSIONS

    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if head[257:262] == b"ustar":
        return ""
    return next((name for name, (magic, _) in COMPRESSIONS.items() if name and head.startswith(magic)), None)


def _looks(head: bytes) -> str:
    if not head:
        return "is empty, so its download may have failed; fetch it again"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "holds a web page, so its download went wrong; fetch it again"
    return f"begins with {head[:8]!r}"


def printable(name: str) -> str:
    """A name that can be shown and stored, whatever is in it."""
    name = UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", name)
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def _fault(name: str) -> str | None:
    if UNPRINTABLE.search(name):
        return "its name holds control characters or is not UTF-8"
    return f"its name is longer than {MAX_NAME} characters" if len(name) > MAX_NAME else None


class FolderSource(Source):
    """A folder on disk."""

    def entries(self) -> Iterator[Entry | LeftOut]:
        for count, entry in enumerate(self._walk(self.path, "", self.path.resolve()), start=1):
            self._limit(count, self.limits.files, "files")
            yield entry

    def stream(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes] | LeftOut]:
        total = 0
        for entry in self.entries():
            if entry.name not in wanted:
                continue
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

    def fingerprint(self) -> Iterator[str]:
        for entry in self.entries():
            yield "\t".join(map(str, (entry.name, entry.reason) if isinstance(entry, LeftOut) else entry[:3]))

    def _walk(self, folder: Path, prefix: str, root: Path) -> Iterator[Entry | LeftOut]:
        try:
            with os.scandir(folder) as found:
                items = sorted(found, key=lambda item: item.name)
        except OSError as error:
            raise UserError(
                f"{folder}: the folder cannot be read: {error.strerror}. Grant access or move it."
            ) from None
        for item in items:
            name = prefix + item.name
            if item.is_dir(follow_symlinks=False):
                yield from self._walk(folder / item.name, name + "/", root)
            elif reason := _fault(name):
                yield LeftOut(printable(name), reason)
            else:
                yield _found(item, name, root)


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


@dataclass(frozen=True)
class ArchiveSource(Source):
    """A zip or tar archive."""

    kind: str
    """`zip`, or the compression of a tar."""

    def entries(self) -> Iterator[Entry | LeftOut]:
        from pipeline.archives import explained

        seen: set[str] = set()
        with explained(self.path):
            for count, member in enumerate(self._members(), start=1):
                self._limit(count, self.limits.files, "files")
                name, reason = member_name(member.name)
                reason = reason or member.refusal
                if not reason and name in seen:
                    reason = "the second file of that name in the archive"
                seen.add(name)
                yield LeftOut(printable(name), reason) if reason else Entry(name, member.size, 0, member.checksum)

    def stream(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes] | LeftOut]:
        from pipeline.archives import explained

        left = set(wanted)
        with explained(self.path):
            for member in self._members() if left else ():
                name, reason = member_name(member.name)
                if reason or member.refusal or name not in left:
                    continue
                self._limit(member.size, self.limits.file_bytes, f"bytes in {name}")
                yield Entry(name, member.size, 0, member.checksum), member.read()
                left.discard(name)
                if not left:
                    return

    def fingerprint(self) -> Iterator[str]:
        facts = self.path.stat()
        yield f"{printable(self.path.name)}\t{facts.st_size}\t{facts.st_mtime_ns}"

    def _members(self) -> Iterator[Member]:
        from pipeline.archives import tar_members, zip_members

        if self.kind == "zip":
            return zip_members(self.path, self._check_unpacked)
        return tar_members(self.path, self.kind, self._check_unpacked)

    def _check_unpacked(self, size: int) -> None:
        self._limit(size, self.limits.total_bytes, "bytes unpacked")
        if size > self.limits.free_bytes:
            ratio = size // max(1, self.path.stat().st_size)
            self._limit(ratio, self.limits.ratio, "times its own size when unpacked")


def member_name(raw: str) -> tuple[str, str | None]:
    """The name of an archive's member with forward slashes, and why it is refused, if it is."""
    name = raw.replace("\\", "/")
    if name.startswith("/"):
        return name, "its name is an absolute path"
    if re.match("[A-Za-z]:", name):
        return name, "its name begins with a drive letter"
    parts = name.split("/")
    if ".." in parts:
        return name, "its name climbs out of the archive (..)"
    name = "/".join(part for part in parts if part not in ("", "."))
    return name, _fault(name) if name else "it has no name"
