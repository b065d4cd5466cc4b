"""A sample of the pictures of a source, the same whatever their order, and what decoding it says."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from dataclasses import dataclass, field

from pipeline.inspection.counting import Groups
from pipeline.source import printable

PICTURES = 200
BYTES = 64_000_000
"""Of the sample, which is held in memory."""
SHOWN = 5
"""Sizes that are named."""


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


class Sample:
    """The pictures whose names hash lowest."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, str, bytes]] = []
        """A heap, the highest hash on top."""
        self._bytes = 0

    def add(self, name: str, data: bytes) -> None:
        """One more picture; it may take the place of another, or be let go."""
        place = int.from_bytes(hashlib.sha256(name.encode(errors="replace")).digest()[:8])
        heapq.heappush(self._kept, (-place, name, data))
        self._bytes += len(data)
        while len(self._kept) > PICTURES or (self._bytes > BYTES and len(self._kept) > 1):
            self._bytes -= len(heapq.heappop(self._kept)[2])

    def decoded(self) -> Sizes:
        """What the pictures are, found in a process that may die of it."""
        from pipeline.ingest.child import Job
        from pipeline.ingest.decoding import decode_all

        sizes = Sizes(sampled=len(self._kept))
        counts: Counter[tuple[int, int]] = Counter()
        jobs = ((name, Job(False, data)) for _, name, data in sorted(self._kept, reverse=True))
        for name, verdict in decode_all(jobs) if self._kept else ():
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
