"""The beginnings of a few files of a source, to find out its format: of an archive in as few passes as can be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

from pipeline.formats._names import PICTURES, clutter, parent, suffix
from pipeline.source import Source

HEAD_BYTES = 65_536
OF_A_KIND = 16
"""Files of one folder and suffix that the first pass over an archive takes along; of pictures two."""
ALONG = 1000
"""Files that any pass takes along, at most: their beginnings stay in memory."""
PASSES = 8
"""Over an archive; whoever then asks for more gets nothing."""


class Heads:
    """From the name of a file to its first 64 KB."""

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        """Of a source with these names, sorted."""
        self._source = source
        self._names = names
        self._known: dict[str, bytes] = {}
        self._passes = 0

    def __call__(self, name: str) -> bytes:
        """The beginning of a file; nothing, if it cannot be read.

        Raises:
            UserError: the source is damaged.
        """
        if name not in self._known:
            self._read(name)
        return self._known.get(name, b"")

    def _read(self, name: str) -> None:
        wanted = {name}
        if self._source.in_one_pass:
            if self._passes == PASSES:
                return
            along = self._likely() if not self._passes else self._alike(name)
            wanted |= set(islice((one for one in along if one not in self._known), ALONG))
            self._passes += 1
        self._known |= dict.fromkeys(wanted, b"")
        self._known.update(self._source.heads(wanted, HEAD_BYTES))

    def _likely(self) -> Iterator[str]:
        """A few files of each kind in each folder, those that are no pictures first."""
        kinds: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name in self._names:
            if not clutter(name):
                kinds[parent(name), suffix(name)].append(name)
        for (_, ending), names in kinds.items():
            if ending not in PICTURES:
                yield from names[:OF_A_KIND]
        for (_, ending), names in kinds.items():
            if ending in PICTURES:
                yield from names[:2]

    def _alike(self, name: str) -> Iterator[str]:
        """Those of the same suffix: whoever asks for one may ask for the next."""
        return (other for other in self._names if suffix(other) == suffix(name) and other > name)
