"""IDX, the format of MNIST and its kin: all pictures in one file, all labels in another, each plain or packed.

    train-images-idx3-ubyte.gz   train-labels-idx1-ubyte.gz
    t10k-images-idx3-ubyte       t10k-labels-idx1-ubyte        the test split

A file is found by its name, with any word before `images` and `labels`. Where it lies there plain and packed, the plain
one is read, unless it is broken. A picture is named by its file and its place: `t10k-images-idx3-ubyte/00007.png`.

Source: LeCun, Cortes, Burges. The MNIST database of handwritten digits, "file formats".
"""

from __future__ import annotations

import math
import re
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.annotations import Flaw
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.errors import UserError
from pipeline.formats._class_files import ClassName
from pipeline.formats._files import Listing, base, clutter, parent
from pipeline.formats._names import splits
from pipeline.formats._numbered import label_of
from pipeline.formats._packing import bare, checksums, unpacked
from pipeline.source import open_source

if TYPE_CHECKING:
    import numpy as np

NAME = re.compile(r"(.*?)(images|labels)([-_.])idx[13]([-_.])ubyte", re.IGNORECASE)
KINDS = {"images": 3, "labels": 1}
"""Dimensions of each kind."""
BYTES = 8
"""The code of unsigned bytes, the only kind of number that pictures have."""
MAX_SIDE = 30_000


class Config(FormatConfig):
    """Options of a source of IDX files."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.LABEL})

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets."""
    classes: tuple[ClassName, ...] = ()
    """Names of the labels 0, 1, ...; empty: the numbers are the names."""

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By the names of its files."""
        pairs = [files for files in _halves(names).values() if len(files) == 2]
        if not pairs:
            return None
        return Recognised(3, f"{pairs[0]['images'][0]} lies beside {pairs[0]['labels'][0]}")

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """A checksum of each picture and its label. The files are read whole for it."""
        yield from checksums(self.read())

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Each picture as PNG, with its label; every file that is not read, and why."""
        listing = Listing.of(self.path, self.inside)
        halves = _halves(listing.names)
        yield from listing.left_out
        known = {name for files in halves.values() for some in files.values() for name in some}
        yield from (LeftOut(name, "by its name no IDX file") for name in listing.names if name not in known)
        whole = {key: files for key, files in halves.items() if len(files) == 2}
        for key, files in halves.items():
            if key not in whole:
                yield from (LeftOut(name, _alone(kind)) for kind, some in files.items() for name in some)
        if not whole:
            raise UserError(self._nothing(listing, halves))
        as_named = {key: files["images"][0].replace("t10k", "test") for key, files in whole.items()}
        by_name = splits(as_named.values())
        for key, files in whole.items():
            yield from self._pair(listing, files, by_name[as_named[key]])

    def _pair(
        self, listing: Listing, files: Mapping[str, list[str]], split: str | None
    ) -> Iterator[Found | LeftOut | Flaw]:
        """The samples of one split.

        Raises:
            UserError: its pictures or its labels are broken, or their numbers differ.
        """
        from pipeline.images import encode_png

        pictures, images, left_out = self._first_whole(listing, files["images"], 3)
        labels, said, more = self._first_whole(listing, files["labels"], 1)
        yield from (*left_out, *more)
        if len(pictures) != len(labels):
            raise UserError(
                f"{self.path}: {images} holds {len(pictures):,} pictures, but {said} holds {len(labels):,} labels. "
                "Fetch both again, or take the one out that does not belong there."
            )
        digits = max(5, len(str(len(pictures))))
        for place, pixels in enumerate(pictures):
            label, flaws = label_of(int(labels[place]), self.classes, said, f"label {place}")
            annotation = {} if label is None else {Target.LABEL: label}
            name = f"{bare(images)}/{place:0{digits}}.png"
            yield Found(name, encode_png(pixels[:, :, None]), annotation, split, flaws=flaws)

    def _first_whole(
        self, listing: Listing, files: Sequence[str], dimensions: int
    ) -> tuple[np.ndarray, str, list[LeftOut]]:
        """The contents of the first file that is not broken, its name, and the files before and after it.

        Raises:
            UserError: all are broken.
        """
        left_out: list[LeftOut] = []
        for place, name in enumerate(files):
            try:
                found = parsed(listing.text(name), name, dimensions)
            except ValueError as error:
                left_out.append(LeftOut(name, str(error)))
            else:
                left_out += [LeftOut(other, f"the same as {name}, which is read") for other in files[place + 1 :]]
                return found, name, left_out
        faults = " ".join(f"{item.name}: {item.reason}." for item in left_out)
        raise UserError(f"{self.path}: {faults}")

    def _nothing(self, listing: Listing, halves: Mapping[str, Mapping[str, list[str]]]) -> str:
        """Why there is nothing to read, with what is wrong with the files that are there."""
        faults = []
        for kind, name in [(kind, name) for files in halves.values() for kind, some in files.items() for name in some]:
            try:
                parsed(listing.text(name), name, KINDS[kind])
            except ValueError as error:
                faults.append(f" {name}: {error}.")
        return (
            f"{self.path}: no pictures in IDX with their labels. Expected files such as train-images-idx3-ubyte and "
            f"train-labels-idx1-ubyte, plain or .gz.{''.join(faults[:4])}"
        )


def parsed(data: bytes, name: str, dimensions: int) -> np.ndarray:
    """The numbers in an IDX file: uint8 [n], or [n, H, W] of pictures.

    Raises:
        ValueError: it is damaged, or not what was expected; the text says how.
    """
    import numpy as np

    data = unpacked(data, promised=bare(name) != name)
    head = 4 + 4 * dimensions
    if len(data) < head or data[:2] != b"\0\0":
        raise ValueError(f"it is no IDX file: it begins with {data[:4]!r}; fetch it again")
    if data[2] != BYTES or data[3] != dimensions:
        raise ValueError(
            f"it holds numbers of type {data[2]} in {data[3]} dimensions; expected {BYTES} in {dimensions}"
        )
    sizes = struct.unpack(f">{dimensions}I", data[4:head])
    if dimensions == 3 and not all(0 < side <= MAX_SIDE for side in sizes[1:]):
        raise ValueError(f"its pictures have {sizes[2]:,} x {sizes[1]:,} pixels; the limit is {MAX_SIDE:,} a side")
    if len(data) - head != (expected := math.prod(sizes)):
        product = " x ".join(f"{size:,}" for size in sizes)
        raise ValueError(f"it promises {product} bytes and holds {len(data) - head:,}; fetch it again")
    return np.frombuffer(data, np.uint8, expected, head).reshape(sizes)


def _halves(names: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """The files of each split, by what they hold, plain before packed."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(names):
        if (match := NAME.fullmatch(bare(base(name)))) and not clutter(name):
            found[f"{parent(name)}/{match[1].lower()}"][match[2].lower()].append(name)
    return {key: dict(files) for key, files in found.items()}


def _alone(kind: str) -> str:
    return "labels of pictures that are not here" if kind == "labels" else "pictures without a file of their labels"
