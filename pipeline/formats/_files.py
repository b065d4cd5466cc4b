"""The files of a source, looked up by name: what formats with files of annotations share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from pipeline.contracts import LeftOut
from pipeline.errors import UserError, did_you_mean
from pipeline.formats._lookup import Lookup, without_suffix
from pipeline.formats._names import CLUTTER as CLUTTER
from pipeline.formats._names import PICTURES as PICTURES
from pipeline.formats._names import ancestors, resolved
from pipeline.formats._names import base as base
from pipeline.formats._names import below as below
from pipeline.formats._names import clutter as clutter
from pipeline.formats._names import folder as folder
from pipeline.formats._names import parent as parent
from pipeline.formats._names import split_of as split_of
from pipeline.formats._names import stem as stem
from pipeline.formats._names import suffix as suffix
from pipeline.formats._values import parsed as parsed
from pipeline.source import Limits, Source, open_source

TEXT_BYTES = 1_000_000_000
"""Of one file of annotations: COCO's own has 450 MB."""


class Match(NamedTuple):
    """The picture that a name in a file of annotations means."""

    name: str | None
    """In the source; None if no file, or more than one, can be meant."""
    exact: bool
    """Whether it lies just where the name says."""


@dataclass(frozen=True)
class Listing:
    """The files of a source. Clutter and what cannot be read is told apart."""

    path: str
    inside: str
    source: Source
    names: tuple[str, ...]
    """Of the regular files below `inside`, sorted."""
    left_out: tuple[LeftOut, ...]
    """Links, hidden files, clutter, and everything outside of `inside`."""
    outside: tuple[str, ...] = ()
    """Regular files outside of `inside`, sorted: pictures that a file below it may mean."""
    sizes: Mapping[str, int] = field(default_factory=dict, repr=False)
    """Of the files in `names` and `outside`, in bytes."""

    @classmethod
    def of(cls, path: str, inside: str = "") -> Listing:
        """List a source.

        Args:
            path: of the source.
            inside: a folder within it; empty for all of it.

        Raises:
            UserError: the source cannot be read, or has no such folder.
        """
        source, inside = open_source(path), folder(inside)
        names: list[str] = []
        outside: list[str] = []
        left_out: list[LeftOut] = []
        sizes: dict[str, int] = {}
        for entry in source.entries():
            if isinstance(entry, LeftOut):
                left_out.append(entry)
                continue
            if reason := clutter(entry.name):
                left_out.append(LeftOut(entry.name, reason))
                continue
            sizes[entry.name] = entry.size
            if below(entry.name, inside):
                names.append(entry.name)
            else:
                outside.append(entry.name)
                left_out.append(LeftOut(entry.name, f"outside data.inside ({inside})"))
        if inside and not names:
            folders = set(ancestors(entry.name for entry in left_out))
            near = did_you_mean(inside, folders - {""})
            raise UserError(f"data.inside: {source.shown} has no folder {inside!r}.{near}")
        return cls(path, inside, source, tuple(sorted(names)), tuple(left_out), tuple(sorted(outside)), sizes)

    @cached_property
    def pictures(self) -> frozenset[str]:
        """The files that are pictures, by suffix."""
        return frozenset(name for name in self.names if suffix(name) in PICTURES)

    @cached_property
    def pictures_outside(self) -> frozenset[str]:
        """The pictures outside of `inside`."""
        return frozenset(name for name in self.outside if suffix(name) in PICTURES)

    def with_suffix(self, *suffixes: str) -> list[str]:
        """The files with one of these suffixes: `json`."""
        return [name for name in self.names if suffix(name) in suffixes]

    def find(self, said: str, beside: str = "", among: Collection[str] | None = None) -> Match:
        """The picture that a file of annotations means.

        Args:
            said: the name as it stands there: relative to that file, to its folder's parent or to the source, with
                either kind of slash, or the path of another machine.
            beside: the file that says it.
            among: the files it may be, a set; every picture by default.

        Returns:
            A file that lies where `said` says; else the one whose last parts agree with most of it.
        """
        known = self.pictures if among is None else among
        said = said.replace("\\", "/")
        home = parent(beside)
        for place in (home, parent(home), self.inside, ""):
            candidate = resolved(place, said)
            if candidate is not None and candidate in known:
                return Match(candidate, True)
        return Match(self._by_name.closest(said, known.__contains__), False)

    def at(self, place: str, known: Collection[str]) -> str | None:
        """The one file of a set that is `place` but for its suffix and the case of letters: `images/train/7`."""
        return self._by_stem.at(place, known.__contains__)

    def closest(self, place: str, known: Collection[str]) -> str | None:
        """The one file of a set whose last folders, and name without suffix, agree with most of `place`."""
        return self._by_stem.closest(place, known.__contains__)

    def contents(self, wanted: Iterable[str]) -> Iterator[tuple[str, bytes] | LeftOut]:
        """The bytes of some files, each once, in one pass over the source."""
        for item in self.source.stream(set(wanted)):
            yield item if isinstance(item, LeftOut) else (item[0].name, item[1])

    def texts(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes] | LeftOut]:
        """As `contents`, of files of annotations, which may have 1 GB each."""
        for item in open_source(self.path, Limits(file_bytes=TEXT_BYTES)).stream(set(wanted)) if wanted else ():
            yield item if isinstance(item, LeftOut) else (item[0].name, item[1])

    def text(self, name: str) -> bytes:
        """The bytes of one file of annotations.

        Raises:
            UserError: it has just gone, or is larger than 1 GB.
        """
        for item in self.texts({name}):
            if isinstance(item, LeftOut):
                raise UserError(f"{self.source.shown}: {item.name} cannot be read: {item.reason}.")
            return item[1]
        raise UserError(f"{self.source.shown}: {name} has just gone.")

    @cached_property
    def _by_name(self) -> Lookup:
        return Lookup((*self.names, *self.outside), str)

    @cached_property
    def _by_stem(self) -> Lookup:
        return Lookup((*self.names, *self.outside), without_suffix)
