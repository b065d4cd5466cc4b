"""LIBSVM's sparse text: a label and pixels in each line, as square grey pictures.

    7 1:-1 2:-0.999928 3:-0.997885 ... 256:-1       usps, usps.t.bz2; plain, .gz, .bz2 or .xz

Features are numbered from 1, row by row; those that a line leaves out are 0. The side of the pictures is that of the
smallest square that holds the largest number in all files. Levels run from `low`, black, to `high`, white: by default
the least and the greatest value of all files, with 0 where a line leaves out a feature. Labels are text as it stands
there: usps has 1 to 10 for the digits 0 to 9, which `shift: -1` makes of them. A file that ends in `.t` is the test
split, one in `.val` or `.tr` the others. A picture is named by its file and its line: `usps.t/00007.png`.

Source: Chang, Lin. LIBSVM: a library for support vector machines, 2011, README.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from pydantic import Field, model_validator

from pipeline.annotations import Flaw
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.errors import UserError
from pipeline.formats._files import PICTURES, Listing, base, clutter, split_of, suffix
from pipeline.formats._libsvm_lines import LINE, Facts, Sheet, facts_of, parsed
from pipeline.formats._packing import bare, checksums, unpacked
from pipeline.source import open_source

KNOWN = frozenset(("libsvm", "svm", "svmlight", "t", "tr", "val", "scale", "txt", "dat", "data"))
SPLITS = {"t": "test", "tr": "train", "val": "val"}


class Config(FormatConfig):
    """Options of a source in LIBSVM's text."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.LABEL})

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets."""
    low: float | None = Field(None, allow_inf_nan=False)
    """The value that is black; what lies below it is black too. Empty: the least in all files."""
    high: float | None = Field(None, allow_inf_nan=False)
    """The value that is white; what lies above it is white too. Empty: the greatest in all files."""
    shift: int = Field(0, ge=-1000, le=1000)
    """Added to each label, which must then be a whole number."""

    @model_validator(mode="after")
    def _ordered(self) -> Config:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) is not below high ({self.high:g})")
        return self

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By the first line of a file, or of what is packed by its name."""
        for name in [name for name in names if _likely(name) and not clutter(name)][:20]:
            head = peek(name)
            first = head.partition(b"\n")[0].decode("utf-8", "replace").rpartition(" ")[0]
            if LINE.fullmatch(first):
                return Recognised(2, f"{name} begins with {first[:30]!r}")
            if bare(name) != name and suffix(bare(name)) in ("t", "tr", "libsvm", "svm", "svmlight"):
                return Recognised(2, f"{name} is packed, and named as LIBSVM's files are")
        return None

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """A checksum of each picture and its label. The files are read whole for it."""
        yield from checksums(self.read())

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Each line as PNG, with its label; every file that is not read, and why."""
        listing = Listing.of(self.path, self.inside)
        sheets, left_out = self._sheets(listing)
        yield from listing.left_out
        yield from left_out
        facts, flaws = facts_of(sheets)
        yield from flaws
        low = facts.low if self.low is None else self.low
        high = facts.high if self.high is None else self.high
        if not low < high or not facts.features:
            raise UserError(
                f"{self.path}: all values are {low:g}, so there is nothing to see. Set data.low and data.high."
            )
        odd = {(flaw.source, flaw.place) for flaw in flaws}
        splits = {sheet.name: SPLITS.get(suffix(bare(sheet.name))) or split_of(base(sheet.name)) for sheet in sheets}
        for sheet in sheets:
            split = splits[sheet.name] if len(set(splits.values())) > 1 else None
            for number, line in sheet.lines:
                if (sheet.name, f"line {number}") not in odd:
                    yield self._picture(sheet.name, number, line, Facts(facts.features, low, high), split)

    def _picture(self, name: str, number: int, line: str, facts: Facts, split: str | None) -> Found:
        import numpy as np

        from pipeline.images import encode_png

        side = math.isqrt(facts.features - 1) + 1
        pixels = np.zeros(side * side)
        label, places, values = parsed(line)
        pixels[np.asarray(places, np.int64) - 1] = values
        levels = np.clip(np.rint((pixels - facts.low) / (facts.high - facts.low) * 255), 0, 255).astype(np.uint8)
        if self.shift:
            try:
                label = str(int(label) + self.shift)
            except ValueError:
                raise UserError(
                    f"{self.path}: {name}, line {number}: the label {label!r} is no whole number. Leave data.shift out."
                ) from None
        picture = encode_png(levels.reshape(side, side, 1))
        return Found(f"{bare(name)}/{number:05}.png", picture, {Target.LABEL: label}, split)

    def _sheets(self, listing: Listing) -> tuple[list[Sheet], list[LeftOut]]:
        """The files in LIBSVM's text, and the others.

        Raises:
            UserError: there is none, or one that is packed is broken.
        """
        sheets: list[Sheet] = []
        left_out = [LeftOut(name, "no text, by its suffix") for name in listing.names if not _likely(name)]
        for item in listing.texts({name for name in listing.names if _likely(name)}):
            if isinstance(item, LeftOut):
                left_out.append(item)
                continue
            name, data = item
            try:
                text = unpacked(data, promised=bare(name) != name).decode("utf-8", "replace")
            except ValueError as error:
                if bare(name) != name:
                    raise UserError(f"{self.path}: {name}: {error}.") from None
                left_out.append(LeftOut(name, str(error)))
                continue
            lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
            if lines and LINE.fullmatch(lines[0][1].partition("#")[0]):
                sheets.append(Sheet(name, lines))
            else:
                left_out.append(LeftOut(name, "its first line is not '<label> 1:<value> 2:<value> ...'"))
        if not sheets:
            raise UserError(
                f"{self.path}: no file in LIBSVM's text. Expected lines such as '7 1:-1 2:0.5', plain, .gz or .bz2."
            )
        return sorted(sheets), left_out


def _likely(name: str) -> bool:
    """Whether a file may be such text by its name; many have no suffix."""
    plain = bare(name)
    return "." not in base(plain) or (suffix(plain) in KNOWN and suffix(plain) not in PICTURES)
