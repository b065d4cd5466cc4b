"""Lists of pictures as text: each line names a picture and, after a blank, a comma or a tab, its mask or its class."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import LeftOut
from pipeline.errors import UserError, did_you_mean
from pipeline.formats._files import PICTURES, Listing, Match, folder, suffix
from pipeline.formats._lookup import alike
from pipeline.formats._samples import find_picture, foreign, masks_among

SUFFIXES = ("txt", "lst", "list")
LONGEST = 4000
"""Characters of a line."""
FIRST = 20
"""Lines that show whether a text is a list."""
MOST_LINES = 10_000_000
MOST_ODD = 1000
"""Lines of a list that cannot be understood."""
TWO = re.compile(rf"(\S.*?\.(?:{'|'.join(sorted(PICTURES))}))(?:\s*,\s*|\s+)(\S.*)", re.IGNORECASE)
BARE = re.compile(r"([^\s,]+)(?:\s*,\s*|\s+)([^\s,]+)")


class Row(NamedTuple):
    """One line of a list."""

    file: str
    place: str
    picture: str
    """As it stands there."""
    second: str
    """Likewise: the name of a mask, or a class."""

    @property
    def masked(self) -> bool:
        """Whether it names a mask."""
        return suffix(self.second) in PICTURES


@dataclass
class Said:
    """What lists say of one picture."""

    labels: dict[str, str] = field(default_factory=dict)
    """Classes as they stand there, each with where it stands first."""
    masks: dict[str, str] = field(default_factory=dict)
    """Names in the source, likewise."""
    files: list[str] = field(default_factory=list)
    """The lists that name it."""
    flaws: list[Flaw] = field(default_factory=list)


def rows(text: str, file: str, several: bool = False) -> Iterator[Row | Flaw]:
    """The lines of a list; a flaw for each that is not two columns.

    Args:
        text: of the list.
        file: its name.
        several: whether several numbers may stand after a picture: else these are no list, but boxes or the like.
    """
    for number, raw in enumerate(text.splitlines(), start=1):
        line, place = raw.strip(), f"line {number}"
        if not line or line.startswith("#"):
            continue
        match = None if len(line) > LONGEST else TWO.fullmatch(line) or BARE.fullmatch(line)
        cells = line.split("\t") if "\t" in line else list(match.groups()) if match else [line]
        cells = [cell.strip().strip("\"'") for cell in cells]
        odd = not several and len(cells) == 2 and re.fullmatch(r"[\d.+\-]+(\s+[\d.+\-]+)+", cells[1])
        if len(cells) == 2 and all(cells) and not odd:
            yield Row(file, place, cells[0], cells[1])
        else:
            yield Flaw(
                FlawKind.UNREADABLE, file, place, f"expected a picture and its mask or class, found {line[:80]!r}"
            )


def is_list(found: Sequence[Row | Flaw], bases: frozenset[str]) -> bool:
    """Whether lines are those of a list of pictures, by the first few.

    Args:
        found: of `rows`.
        bases: of the pictures of the source, names without folders, as `alike` has them, with and without suffix.
    """
    first = [row for row in found[:FIRST] if isinstance(row, Row)]
    named = [row for row in first if alike(folder(row.picture).rpartition("/")[2]) in bases]
    return bool(named) and 2 * len(first) >= min(len(found), FIRST)


def bases(names: Sequence[str] | frozenset[str]) -> frozenset[str]:
    """See `is_list`."""
    whole = {alike(name.rpartition("/")[2]) for name in names}
    return frozenset(whole | {name.rpartition(".")[0] for name in whole})


def read(listing: Listing, wanted: Sequence[str], several: bool = False) -> tuple[list[Row | Flaw], list[LeftOut]]:
    """The rows of all lists of a source, and the text files that are none.

    Args:
        listing: of the source.
        wanted: the lists; empty: found out.
        several: see `rows`.

    Raises:
        UserError: there is no such list, or none at all.
    """
    texts = listing.with_suffix(*SUFFIXES)
    files = [folder(name) for name in wanted] or [name for name in texts if "/imagesets/" not in f"/{name.lower()}"]
    for name in files:
        if name not in listing.names:
            hint = did_you_mean(name, texts) or f" Its text files: {', '.join(texts[:8]) or 'none'}."
            raise UserError(f"data.lists: {listing.path} has no file {name!r}.{hint}")
    known, found, left_out = bases(listing.pictures), [], []
    for item in listing.contents(files):
        if isinstance(item, LeftOut):
            left_out.append(item)
            continue
        name, data = item
        text = data.decode("utf-8-sig", "replace")
        if not wanted and not is_list(list(islice(rows(text, name, several), FIRST)), known):
            left_out.append(LeftOut(name, "no list of pictures and masks or classes"))
            continue
        lines = list(islice(rows(text, name, several), MOST_LINES + 1))
        odd = [row for row in lines if isinstance(row, Flaw)]
        if len(lines) > MOST_LINES or len(odd) > MOST_ODD:
            first = f" The first: {odd[0].place}: {odd[0].found}." if odd else ""
            raise UserError(
                f"{listing.path}: {name} has {len(lines):,} lines or more, and {len(odd):,} cannot be understood; the "
                f"limits are {MOST_LINES:,} and {MOST_ODD:,}.{first} Mend the list."
            )
        found += lines
    if not any(isinstance(row, Row) for row in found):
        raise UserError(
            f"{listing.path}: no text file in it lists pictures. Expected lines such as 'train/1.jpg trainannot/1.png' "
            "or '1.jpg cat'; set data.lists if there are some."
        )
    return sorted(found, key=lambda row: row[0] if isinstance(row, Row) else row[1]), left_out


def resolve(listing: Listing, found: Sequence[Row | Flaw]) -> tuple[dict[str, Said], list[Flaw]]:
    """What is said of each picture, by its name in the source, and flaws that belong to none."""
    flaws = [row for row in found if isinstance(row, Flaw)]
    lines = [row for row in found if isinstance(row, Row)]
    pictures = _matched(listing, lines)
    said: dict[str, Said] = {}
    for row, (match, mask) in zip(lines, pictures, strict=True):
        if match.name is None:
            what = f"{row.picture} is not in the source, or more than one file can be meant"
            flaws.append(Flaw(FlawKind.NO_PICTURE, row.file, row.place, what))
            continue
        of = said.setdefault(match.name, Said())
        if not any(flaw.kind is FlawKind.FOREIGN_PATH for flaw in of.flaws):
            of.flaws += foreign(row.picture, match, row.file, row.place)
        if row.masked and mask is None:
            what = f"its mask {row.second} is not in the source"
            of.flaws.append(Flaw(FlawKind.UNREADABLE, row.file, row.place, what))
        _note(of, row, mask)
    return said, flaws


def _note(of: Said, row: Row, mask: str | None) -> None:
    known, value = (of.masks, mask) if row.masked else (of.labels, row.second)
    first = known.get(value, "") if value is not None else ""
    if first.startswith(row.file + ":"):
        of.flaws.append(Flaw(FlawKind.DUPLICATE, row.file, row.place, f"{row.picture} has the same in {first}"))
    if value is not None:
        known.setdefault(value, f"{row.file}: {row.place}")
    of.files.append(row.file)


def _matched(listing: Listing, lines: Sequence[Row]) -> list[tuple[Match, str | None]]:
    """The files that each line means."""
    nothing = Match(None, False)
    matches = [
        (
            find_picture(listing, row.picture, row.file),
            listing.find(row.second, row.file) if row.masked else nothing,
        )
        for row in lines
    ]
    claims = [(picture.name, row.picture, False) for row, (picture, _) in zip(lines, matches, strict=True)]
    claims += [(mask.name, row.second, True) for row, (_, mask) in zip(lines, matches, strict=True)]
    masks = masks_among(claims)
    return [
        (nothing if picture.name in masks else picture, mask.name if mask.name in masks else None)
        for picture, mask in matches
    ]
