"""A zip or tar archive. Its members are read one by one and never unpacked to disk; only regular files count; a name is
a label and never a path; sizes, counts and the ratio of compression have limits."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipeline.contracts import LeftOut
from pipeline.errors import UserError
from pipeline.sources.base import Entry, Limits, Source, member_name, printable

if TYPE_CHECKING:
    from pipeline.archives import Member

KINDS = "a folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz"
HEAD_BYTES = 512
"""What tells the kind."""


@dataclass(frozen=True)
class ArchiveSource(Source):
    """The files in an archive."""

    in_one_pass: ClassVar[bool] = True
    path: Path
    kind: str
    """`zip`, or the compression of a tar."""

    @classmethod
    def of(cls, path: Path, shown: str, limits: Limits) -> ArchiveSource:
        """The archive in a file, by its contents and not by its suffix.

        Raises:
            OSError: it cannot be read.
            UserError: it is no archive.
        """
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        kind = _kind(head)
        if kind is None:
            raise UserError(f"data.path: {shown!r} is no archive: it {_looks(head)}. Expected {KINDS}.")
        return cls(shown, limits, path, kind)

    def entries(self) -> Iterator[Entry | LeftOut]:
        from pipeline.archives import explained

        seen: set[str] = set()
        with explained(self.shown):
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
        with explained(self.shown):
            for name, member in self._wanted(wanted):
                left.discard(name)
                self._limit(member.size, self.limits.file_bytes, f"bytes in {name}")
                yield Entry(name, member.size, 0, member.checksum), member.read(member.size)
        yield from self._gone(left)

    def heads(self, wanted: Collection[str], size: int) -> Iterator[tuple[str, bytes]]:
        from pipeline.archives import explained

        with explained(self.shown):
            for name, member in self._wanted(wanted):
                yield name, member.read(min(size, member.size))

    def fingerprint(self) -> Iterator[str]:
        facts = self.path.stat()
        yield f"{printable(self.path.name)}\t{facts.st_size}\t{facts.st_mtime_ns}"

    def _wanted(self, wanted: Collection[str]) -> Iterator[tuple[str, Member]]:
        """The members of these names, the first of each."""
        left = set(wanted)
        for member in self._members() if left else ():
            name, reason = member_name(member.name)
            if reason or member.refusal or name not in left:
                continue
            yield name, member
            left.discard(name)
            if not left:
                return

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
