"""CIFAR-10 and CIFAR-100 in their binary version: records of one or two labels and 32 x 32 pixels.

    data_batch_1.bin ... data_batch_5.bin   test_batch.bin   batches.meta.txt              CIFAR-10
    train.bin   test.bin   coarse_label_names.txt   fine_label_names.txt                  CIFAR-100

The version for Python is a set of pickles, which may run code as they are read, and is refused. A picture is named by
its file and its place: `test_batch.bin/00007.png`.

Source: Krizhevsky. Learning Multiple Layers of Features from Tiny Images, 2009; its page, "binary version".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from pipeline.annotations import Flaw
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.errors import UserError
from pipeline.formats._class_files import empty
from pipeline.formats._class_lists import LONGEST
from pipeline.formats._files import Listing, base, clutter, parent
from pipeline.formats._numbered import label_of
from pipeline.formats._packing import checksums, unpacked
from pipeline.source import open_source

SIDE = 32
PIXELS = 3 * SIDE * SIDE
TEN = re.compile(r"(data_batch_\d+|test_batch)\.bin")
HUNDRED = re.compile(r"(train|test)\.bin")
NAMES = {"batches.meta.txt": "ten", "coarse_label_names.txt": "coarse", "fine_label_names.txt": "fine"}
PICKLES = frozenset(("batches.meta", "test_batch", "meta", *(f"data_batch_{number}" for number in range(1, 6))))
META = frozenset(("batches.meta", "meta"))
REFUSED = (
    "this is CIFAR for Python, a set of pickles, which may run any code as they are read. Fetch the binary version "
    "(cifar-10-binary.tar.gz, cifar-100-binary.tar.gz)"
)


class Config(FormatConfig):
    """Options of a source of CIFAR's records."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.LABEL})

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets."""
    labels: Literal["fine", "coarse"] = "fine"
    """Of CIFAR-100: its 100 classes, or the 20 that they belong to; the other one is metadata."""

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By the names of its files; also the version for Python, to say why it is refused."""
        found = {base(name): name for name in names if not clutter(name)}
        records = [name for name in found if TEN.fullmatch(name)]
        hundred = [name for name in found if HUNDRED.fullmatch(name)]
        if records or (hundred and "fine_label_names.txt" in found):
            return Recognised(3, f"{found[(records or hundred)[0]]} is named as CIFAR's binary version is")
        kin = sorted((PICKLES | {"train", "test"}) & found.keys()) if META & found.keys() else []
        pickled = [name for name in kin if peek(found[name]).startswith(b"\x80")]
        return Recognised(2, f"{found[pickled[0]]} is one of CIFAR's pickles") if len(pickled) > 1 else None

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """A checksum of each picture and its label. The files are read whole for it."""
        yield from checksums(self.read())

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Each picture as PNG, with its label; every file that is not read, and why."""
        listing = Listing.of(self.path, self.inside)
        ten = [name for name in listing.names if TEN.fullmatch(base(name))]
        records = ten or [name for name in listing.names if HUNDRED.fullmatch(base(name))]
        if not records:
            pickled = [name for name in listing.names if base(name) in PICKLES]
            raise UserError(
                f"{self.path}: {REFUSED if pickled else 'it has no data_batch_1.bin and no train.bin of CIFAR'}."
            )
        names = _names(listing, parent(records[0]))
        used = {*records, *(name for name in listing.names if base(name) in NAMES)}
        yield from listing.left_out
        for name in listing.names:
            if name not in used:
                yield LeftOut(name, REFUSED if base(name) in PICKLES else "no file of CIFAR's binary version")
        seen: set[str] = set()
        splits = {name: "test" if base(name).startswith("test") else "train" for name in records}
        for item in listing.contents(records):
            if isinstance(item, LeftOut):
                yield item
            else:
                split = splits[item[0]] if len(set(splits.values())) > 1 else None
                for found in self._samples(*item, names, split):
                    seen |= set(found.annotation.values())
                    yield found
        kind = "ten" if ten else self.labels
        source = next((name for name in listing.names if NAMES.get(base(name)) == kind), "")
        yield from empty(names.get(kind, ()), seen, source)

    def _samples(self, name: str, data: bytes, names: dict[str, list[str]], split: str | None) -> Iterator[Found]:
        """The records of one file.

        Raises:
            UserError: it is no whole number of records.
        """
        import numpy as np

        from pipeline.images import encode_png

        kinds = ["ten"] if TEN.fullmatch(base(name)) else ["coarse", "fine"]
        length = len(kinds) + PIXELS
        try:
            data = unpacked(data)
            if len(data) % length:
                raise ValueError(
                    f"its {len(data):,} bytes are no whole number of records of {length:,}; fetch it again"
                )
        except ValueError as error:
            raise UserError(f"{self.path}: {name}: {error}.") from None
        wanted = kinds.index(self.labels) if len(kinds) == 2 else 0
        records = np.frombuffer(data, np.uint8).reshape(-1, length)
        for place, record in enumerate(records):
            said = [
                label_of(int(record[at]), names.get(kind, ()), name, f"record {place}") for at, kind in enumerate(kinds)
            ]
            label, flaws = said[wanted]
            pixels = record[len(kinds) :].reshape(3, SIDE, SIDE).transpose(1, 2, 0)
            annotation = {} if label is None else {Target.LABEL: label}
            other = {kind: said[at][0] or "" for at, kind in enumerate(kinds) if at != wanted}
            picture = encode_png(np.ascontiguousarray(pixels))
            yield Found(f"{name}/{place:05}.png", picture, annotation, split, metadata=other, flaws=flaws)


def _names(listing: Listing, home: str) -> dict[str, list[str]]:
    """The names of the classes, by what they are of; none where the file is missing.

    Raises:
        UserError: they cannot be read.
    """
    wanted = {name for name in listing.names if parent(name) == home and base(name) in NAMES}
    found: dict[str, list[str]] = {}
    for item in listing.contents(wanted):
        if isinstance(item, tuple):
            name, data = item
            text = data[:100_000].decode("utf-8", "replace")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            if any(len(line) > LONGEST or not line.isprintable() for line in lines) or len(lines) > 256:
                raise UserError(f"{listing.path}: {name} is no list of classes, one a line. Fetch it again.")
            found[NAMES[base(name)]] = lines
    return found
