"""A sample of the pictures of a source, the same whatever their order, and what decoding it says."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.annotations import Flaw, FlawKind, Painted
from pipeline.ingest.child import Job
from pipeline.ingest.decoding import decode_all
from pipeline.ingest.painting import canvas, packed
from pipeline.inspection.counting import ClassCount, Groups
from pipeline.source import printable

PICTURES = 200
MASKS = 40
"""Of them whose pixels are counted."""
BYTES = 64_000_000
"""Of the sample, which is held in memory."""


@dataclass
class Sizes:
    """Of the pictures of a sample."""

    sampled: int = 0
    grey: int = 0
    widths: list[int] = field(default_factory=list)
    """Sorted; of those that could be decoded."""
    heights: list[int] = field(default_factory=list)
    common: list[tuple[int, int, int]] = field(default_factory=list)
    """Width, height and number of the most frequent sizes."""
    damaged: Groups = field(default_factory=Groups)
    """Pictures that cannot be decoded, by reason."""

    @property
    def shorter(self) -> int:
        """The median of the shorter sides; 0 where nothing was decoded."""
        sides = sorted(min(width, height) for width, height, count in self.common for _ in range(count))
        return sides[len(sides) // 2] if sides else 0

    @property
    def longer(self) -> int:
        """The median of the longer sides; 0 where nothing was decoded."""
        sides = sorted(max(width, height) for width, height, count in self.common for _ in range(count))
        return sides[len(sides) // 2] if sides else 0


@dataclass
class Pixels:
    """Of the masks of a sample."""

    masks: int = 0
    classes: dict[str, ClassCount] = field(default_factory=dict)
    """Pixels of each class that has any, and pictures that hold it."""
    flaws: list[Flaw] = field(default_factory=list)


class _Kept(NamedTuple):
    place: int
    """Below 0: a heap has its smallest on top, and the highest hash has to go first."""
    name: str
    data: bytes
    painted: Painted | None

    @property
    def bytes(self) -> int:
        return len(self.data) + sum(len(layer.data) for layer in (self.painted.layers if self.painted else ()))


class Sample:
    """The pictures whose names hash lowest, with their masks."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        self._bytes = 0

    def add(self, name: str, data: bytes, painted: Painted | None = None) -> None:
        """One more picture; it may take the place of another, or be let go."""
        place = int.from_bytes(hashlib.sha256(name.encode(errors="replace")).digest()[:8])
        kept = _Kept(-place, name, data, painted)
        heapq.heappush(self._kept, kept)
        self._bytes += kept.bytes
        while len(self._kept) > PICTURES or (self._bytes > BYTES and len(self._kept) > 1):
            self._bytes -= heapq.heappop(self._kept).bytes

    def decoded(self) -> Sizes:
        """What the pictures are, found in a process that may die of it."""
        sizes = Sizes(sampled=len(self._kept))
        counts: Counter[tuple[int, int]] = Counter()
        for name, verdict in decode_all((one.name, Job(False, one.data)) for one in self._ordered()):
            if verdict.reason:
                sizes.damaged.add(printable(verdict.reason), printable(name))
                continue
            counts[verdict.width, verdict.height] += 1
            sizes.grey += verdict.grey
        sizes.widths = sorted(width for width, _ in counts.elements())
        sizes.heights = sorted(height for _, height in counts.elements())
        ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        sizes.common = [(width, height, count) for (width, height), count in ordered]
        return sizes

    def painted(self) -> Pixels:
        """What some of the masks hold, found in the same way."""
        found, chosen = Pixels(), [one for one in self._ordered() if one.painted][:MASKS]
        jobs = ((one.name, Job(True, packed(one.painted))) for one in chosen if one.painted)
        for one, (_, verdict) in zip(chosen, decode_all(jobs), strict=True):
            assert one.painted
            if verdict.painted is None:
                found.flaws.append(Flaw(FlawKind.UNREADABLE, one.painted.layers[0].name, "", verdict.reason or ""))
                continue
            made = canvas(one.painted, *verdict.painted)
            found.masks += 1
            found.flaws += made.flaws
            for name, count in made.counts.items():
                held = found.classes.setdefault(printable(name), ClassCount())
                held.count += count
                held.pictures += 1
        return found

    def _ordered(self) -> list[_Kept]:
        return sorted(self._kept, key=lambda one: (-one.place, one.name))
