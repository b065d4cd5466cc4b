"""Folders and archives that do not lie on a disk of this machine, as sources like any other."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from pipeline.contracts import LeftOut
from pipeline.errors import TemporaryFailure
from pipeline.sources.ahead import in_order
from pipeline.sources.archive import ArchiveSource
from pipeline.sources.base import Entry, Source, member_name, printable
from pipeline.sources.fetching import fetched
from pipeline.sources.store import Blob, Passing, Store, Stored

FEW = 16
"""Files that are asked for by name rather than looked for among all."""


@dataclass(frozen=True)
class StoreSource(Source):
    """A folder in a store: listed when needed, read file by file, a few at a time."""

    store: Store

    def entries(self) -> Iterator[Entry | LeftOut]:
        with insisting(self.shown):
            for count, (name, reason, stored) in enumerate(self._named(), start=1):
                self._limit(count, self.limits.files, "files")
                yield LeftOut(printable(name), reason) if reason else _entry(name, stored)

    def stream(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes] | LeftOut]:
        total, left = 0, set(wanted)
        with insisting(self.shown):
            items = self._checked(wanted)
            for (name, stored), data in in_order(items, lambda item: self._whole(item[1]), lambda item: item[1].weight):
                left.discard(name)
                total += len(data)
                self._limit(total, self.limits.total_bytes, "bytes in all")
                yield _entry(name, stored), data
        yield from self._gone(left)

    def heads(self, wanted: Collection[str], size: int) -> Iterator[tuple[str, bytes]]:
        with insisting(self.shown):
            items = self._found(wanted)
            for (name, _), data in in_order(items, lambda item: self.store.read(item[1], size), lambda _: size):
                yield name, data

    def fingerprint(self) -> Iterator[str]:
        with insisting(self.shown):
            for name, reason, stored in self._named():
                yield f"{printable(name)}\t{reason}" if reason else f"{name}\t{stored.size or 0}\t{stored.version}"

    def _named(self) -> Iterator[tuple[str, str | None, Stored]]:
        """Every file by the name that it has as a source, and why it is left out, if it is."""
        seen: set[str] = set()
        for stored in self.store.files():
            name, reason = member_name(stored.name)
            if not reason and name in seen:
                reason = "the second file of that name in the source"
            seen.add(name)
            yield name, reason, stored

    def _found(self, wanted: Collection[str]) -> Iterator[tuple[str, Stored]]:
        if len(wanted) <= FEW:
            found = {name: self.store.find(name) for name in sorted(wanted)}
            if all(found.values()):
                yield from ((name, stored) for name, stored in found.items() if stored)
                return
        yield from ((name, stored) for name, reason, stored in self._named() if not reason and name in wanted)

    def _checked(self, wanted: Collection[str]) -> Iterator[tuple[str, Stored]]:
        for name, stored in self._found(wanted):
            self._limit(stored.size or 0, self.limits.file_bytes, f"bytes in {name}")
            yield name, stored

    def _whole(self, stored: Stored) -> bytes:
        most = self.limits.file_bytes
        data = self.store.read(stored, most + 1 if stored.size is None else stored.size)
        self._limit(len(data), most, f"bytes in {printable(stored.name)}")
        if stored.size is not None and len(data) != stored.size:
            raise TemporaryFailure(
                f"{self.shown}: {printable(stored.name)} has {len(data):,} bytes, and was listed with {stored.size:,}: "
                "it was replaced meanwhile, or the server is wrong. Run the same command again."
            )
        return data


@dataclass(frozen=True)
class FetchedArchive(Source):
    """An archive elsewhere; it is fetched once somebody asks for more than its fingerprint."""

    in_one_pass: ClassVar[bool] = True
    blob: Blob

    def entries(self) -> Iterator[Entry | LeftOut]:
        yield from self._archive().entries()

    def stream(self, wanted: Collection[str]) -> Iterator[tuple[Entry, bytes] | LeftOut]:
        yield from self._archive().stream(wanted)

    def heads(self, wanted: Collection[str], size: int) -> Iterator[tuple[str, bytes]]:
        yield from self._archive().heads(wanted, size)

    def fingerprint(self) -> Iterator[str]:
        yield f"{self.shown}\t{self.blob.version}"

    def _archive(self) -> ArchiveSource:
        with insisting(self.shown):
            return ArchiveSource.of(fetched(self.blob, self.limits), self.shown, self.limits)


@contextmanager
def insisting(shown: str) -> Iterator[None]:
    """Inside, what may succeed later is an error now: the store has been asked often enough."""
    try:
        yield
    except Passing as passing:
        raise TemporaryFailure(
            f"data.path: {shown} cannot be reached: {passing}. Is the server up, and the network? Run the same command "
            "again."
        ) from None


def _entry(name: str, stored: Stored) -> Entry:
    return Entry(name, stored.size or 0, 0, stored.stamp)
