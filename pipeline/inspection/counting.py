"""Counts of things whose number nobody knows beforehand: each keeps a bounded amount."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.source import printable

EXAMPLES = 3
MOST = 1_000
"""Kinds that are told apart."""
MOST_PICTURES = 1_000_000
"""Among which copies are looked for."""
OTHERS = "others"
VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[/\d]\S*")


@dataclass
class Group:
    """Things of one kind."""

    count: int = 0
    examples: list[str] = field(default_factory=list)


class Groups(dict[str, Group]):
    """Things by kind; of each the number and the first few."""

    def add(self, kind: str, example: str) -> None:
        """One more."""
        group = self.setdefault(kind if kind in self or len(self) < MOST else OTHERS, Group())
        group.count += 1
        if len(group.examples) < EXAMPLES:
            group.examples.append(example)

    @property
    def total(self) -> int:
        """Of all kinds."""
        return sum(group.count for group in self.values())

    def ordered(self) -> list[tuple[str, Group]]:
        """The most frequent first."""
        return sorted(self.items(), key=lambda pair: (-pair[1].count, pair[0]))


@dataclass
class ClassCount:
    """How much there is of one class."""

    count: int = 0
    """Pictures that are of it, objects, outlines, or pixels of a sample of masks."""
    pictures: int = 0
    """That hold it."""


class Classes:
    """The classes of one kind of annotation."""

    def __init__(self) -> None:
        self.counts: dict[str, ClassCount] = {}

    def add(self, names: Iterable[str]) -> None:
        """What one picture holds, once for each object."""
        of_picture: dict[str, int] = {}
        for name in names:
            of_picture[name] = of_picture.get(name, 0) + 1
        for name, count in of_picture.items():
            name = printable(name)
            held = self.counts.setdefault(
                name if name in self.counts or len(self.counts) < MOST else OTHERS, ClassCount()
            )
            held.count += count
            held.pictures += 1


@dataclass
class Copies:
    """Pictures that are there more than once."""

    count: int = 0
    """Without the first of each."""
    examples: list[tuple[str, str]] = field(default_factory=list)
    """A picture, and the first of the same bytes."""
    _first: dict[bytes, str] = field(default_factory=dict, repr=False)

    def add(self, name: str, data: bytes) -> None:
        """One more picture."""
        digest = hashlib.sha256(data).digest()[:16]
        if digest in self._first:
            self.count += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append((printable(name), printable(self._first[digest])))
        elif len(self._first) < MOST_PICTURES:
            self._first[digest] = name


def pattern(reason: str) -> str:
    """A reason without what differs from file to file: names in quotes, paths and numbers."""
    return " ".join(VARYING.sub("…", printable(reason)).split())
