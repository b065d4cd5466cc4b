"""The files of a source, looked up by name: what formats with files of annotations share."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from pipeline.contracts import LeftOut
from pipeline.errors import UserError, did_you_mean
from pipeline.formats._metadata import SPLIT_NAMES
from pipeline.source import Limits, Source, open_source

PICTURES = frozenset(
    ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm", "pnm")
)
"""Suffixes; what the files are is for the decoder to say."""
CLUTTER = {
    "__macosx": "macOS puts it into archives; no picture of the data",
    "thumbs.db": "a thumbnail cache of Windows",
    "desktop.ini": "a settings file of Windows",
}
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
        left_out: list[LeftOut] = []
        for entry in source.entries():
            if isinstance(entry, LeftOut):
                left_out.append(entry)
            elif reason := clutter(entry.name) or (
                "" if below(entry.name, inside) else f"outside data.inside ({inside})"
            ):
                left_out.append(LeftOut(entry.name, reason))
            else:
                names.append(entry.name)
        if inside and not names:
            folders = {parent(entry.name) for entry in left_out}
            raise UserError(f"data.inside: {path} has no folder {inside!r}.{did_you_mean(inside, folders - {''})}")
        return cls(path, inside, source, tuple(sorted(names)), tuple(left_out))

    @cached_property
    def pictures(self) -> frozenset[str]:
        """The files that are pictures, by suffix."""
        return frozenset(name for name in self.names if suffix(name) in PICTURES)

    def with_suffix(self, *suffixes: str) -> list[str]:
        """The files with one of these suffixes: `json`."""
        return [name for name in self.names if suffix(name) in suffixes]

    def find(self, said: str, beside: str = "", among: Collection[str] | None = None) -> Match:
        """The picture that a file of annotations means.

        Args:
            said: the name as it stands there: relative to that file, to its folder's parent or to the source, with
                either kind of slash, or the path of another machine.
            beside: the file that says it.
            among: the files it may be; every picture by default.

        Returns:
            A file that lies where `said` says; else the one whose last parts agree with most of it.
        """
        known = self.pictures if among is None else among
        said = said.replace("\\", "/")
        home = parent(beside)
        for place in (home, parent(home), self.inside, ""):
            candidate = folder(f"{place}/{said}") if place else folder(said)
            if candidate in known and not said.startswith("/") and ".." not in said.split("/"):
                return Match(candidate, True)
        parts = [part for part in said.lower().split("/") if part not in ("", ".", "..")]
        same_end = [name for name in self._by_base.get(parts[-1], []) if name in known] if parts else []
        if not same_end:
            return Match(None, False)
        agreeing = {name: _common_end(name.lower().split("/"), parts) for name in same_end}
        best = max(agreeing.values())
        closest = [name for name, count in agreeing.items() if count == best]
        return Match(closest[0], False) if len(closest) == 1 else Match(None, False)

    def contents(self, wanted: Iterable[str]) -> Iterator[tuple[str, bytes] | LeftOut]:
        """The bytes of some files, each once, in one pass over the source."""
        for item in self.source.stream(set(wanted)):
            yield item if isinstance(item, LeftOut) else (item[0].name, item[1])

    def text(self, name: str) -> bytes:
        """The bytes of one file of annotations.

        Raises:
            UserError: it has just gone, or is larger than 1 GB.
        """
        for item in open_source(self.path, Limits(file_bytes=TEXT_BYTES)).stream({name}):
            if isinstance(item, LeftOut):
                raise UserError(f"{self.path}: {item.name} cannot be read: {item.reason}.")
            return item[1]
        raise UserError(f"{self.path}: {name} has just gone.")

    @cached_property
    def _by_base(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            found[base(name).lower()].append(name)
        return found


def parsed(data: bytes, where: str) -> Any:
    """JSON of a file of annotations.

    Raises:
        UserError: it is none; `where` says which file it is.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is no JSON: {' '.join(str(error).split())}.") from None


def split_of(name: str) -> str | None:
    """The split that a folder or the file's own name tells of: `train2017`, `valid/a.jpg`, `instances_val.json`."""
    for part in reversed(name.lower().split("/")):
        for word in re.split(r"[^a-z]+", part):
            if word in SPLIT_NAMES:
                return SPLIT_NAMES[word]
    return None


def clutter(name: str) -> str | None:
    """Why a file is nothing of the data, if it is not."""
    parts = name.split("/")
    if any(part.startswith(".") for part in parts):
        return "hidden"
    return next((CLUTTER[part.lower()] for part in parts if part.lower() in CLUTTER), None)


def folder(path: str) -> str:
    """A path with single forward slashes and no dots: `./a//b/` is `a/b`."""
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))


def below(name: str, home: str) -> bool:
    """Whether a file lies in a folder; everything lies in the empty one."""
    return not home or name.startswith(home + "/")


def parent(name: str) -> str:
    """The folder that a file lies in; empty at the top."""
    return name.rpartition("/")[0]


def base(name: str) -> str:
    """A file's name without its folders."""
    return name.rpartition("/")[2]


def stem(name: str) -> str:
    """A file's name without folders and suffix."""
    return base(name).rpartition(".")[0] or base(name)


def suffix(name: str) -> str:
    """A file's suffix in lower case, without the dot."""
    return base(name).rpartition(".")[2].lower()


def _common_end(first: list[str], second: list[str]) -> int:
    count = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != other:
            break
        count += 1
    return count
