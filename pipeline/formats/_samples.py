"""Pictures with further files that belong to them: put together in few passes, and listed as one sample each."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import LeftOut
from pipeline.formats._files import PICTURES, Listing, Match, folder, suffix
from pipeline.formats._names import common_end
from pipeline.source import Entry

HELD = 500_000_000
"""Bytes of further files that are kept in memory; more of them take another pass over the source."""


class Joined(NamedTuple):
    """A picture and what belongs to it."""

    name: str
    data: bytes
    parts: tuple[bytes | None, ...]
    """The contents of the further files, in the order asked for; None where one cannot be read."""


def joined(listing: Listing, parts: Mapping[str, Sequence[str]]) -> Iterator[Joined | LeftOut]:
    """Each picture with its further files.

    These are read first and the pictures streamed by, so that memory holds small masks and not large pictures.

    Args:
        listing: of the source.
        parts: of each picture, the names of its further files, if it has any.
    """
    users: dict[str, list[str]] = defaultdict(list)
    for picture, names in parts.items():
        for name in dict.fromkeys(names):
            users[name].append(picture)
    open_parts = {picture: len(set(names)) for picture, names in parts.items()}
    held: dict[str, bytes | None] = {}
    while open_parts:
        yield from _gather(listing, users, open_parts, held)
        ready = {picture for picture, count in open_parts.items() if not count}
        for item in listing.contents(ready):
            if isinstance(item, LeftOut):
                yield item
            else:
                name, data = item
                yield Joined(name, data, tuple(held[part] for part in parts[name]))
        for picture in ready:
            del open_parts[picture]
        for name in [name for name in held if not any(user in open_parts for user in users[name])]:
            del held[name], users[name]


def _gather(
    listing: Listing, users: Mapping[str, list[str]], open_parts: dict[str, int], held: dict[str, bytes | None]
) -> Iterator[LeftOut]:
    """Fill `held` until no further file is missing, or until it is full and a picture is complete."""

    def keep(name: str, data: bytes | None) -> None:
        held[name] = data
        for picture in users[name]:
            open_parts[picture] -= 1

    size = sum(len(data or b"") for data in held.values())
    missing = users.keys() - held.keys()
    for item in listing.contents(missing) if missing else ():
        name = item.name if isinstance(item, LeftOut) else item[0]
        keep(name, None if isinstance(item, LeftOut) else item[1])
        if isinstance(item, LeftOut):
            yield item
        else:
            size += len(item[1])
        if size > HELD and any(not open_parts[picture] for picture in users[name]):
            return
    for name in sorted(missing - held.keys()):  # it has gone since it was listed
        keep(name, None)
        yield LeftOut(name, "it has just gone")


def lost(joined: Joined, names: Sequence[str]) -> tuple[Flaw, ...]:
    """The flaws of a picture whose further files cannot be read."""
    pairs = zip(names, joined.parts, strict=True)
    return tuple(Flaw(FlawKind.UNREADABLE, name, "", "it cannot be read") for name, data in pairs if data is None)


def lines(listing: Listing, parts: Mapping[str, Sequence[str]], said: Mapping[str, object]) -> Iterator[str]:
    """Of `FormatConfig.listing`: one line per picture, which changes with it and what belongs to it.

    Args:
        listing: of the source.
        parts: of each picture, the names of its further files, if it has any.
        said: of each picture, what a file of annotations says of it, if one does.
    """
    facts = {entry.name: "\t".join(map(str, entry)) for entry in listing.source.entries() if isinstance(entry, Entry)}
    for picture in sorted(parts):
        words = [facts.get(name, name) for name in (picture, *parts[picture])]
        if picture in said:
            words.append(hashlib.sha256(repr(said[picture]).encode()).hexdigest()[:16])
        yield "\t".join(words)


def find_picture(listing: Listing, said: str, beside: str, among: Collection[str] | None = None) -> Match:
    """`Listing.find`, also for names without a suffix, as in `1 cat`."""
    match = listing.find(said, beside, among)
    if match.name is not None or suffix(said) in PICTURES:
        return match
    found = {again for ending in sorted(PICTURES) if (again := listing.find(f"{said}.{ending}", beside, among)).name}
    return found.pop() if len(found) == 1 else match


def masks_among(claims: Iterable[tuple[str | None, str, bool]]) -> set[str]:
    """The files that are masks, of those that some names mean as pictures and some as masks.

    Pictures and masks often have the same base names, and where one of them is missing the name of one finds the
    other. A file is what its own name fits best.

    Args:
        claims: a file, the name that was found to mean it, and whether as a mask.
    """
    fits: dict[str, list[int]] = {}
    for file, said, painted in claims:
        if file is not None:
            fit = fits.setdefault(file, [0, 0])
            fit[painted] = max(fit[painted], common_end(file, folder(said)))
    return {file for file, (picture, mask) in fits.items() if mask > picture}


def foreign(said: str, match: Match, source: str, place: str) -> tuple[Flaw, ...]:
    """The flaw of a picture that is named in another place than it lies in; a bare name names no place."""
    if match.exact or "/" not in said.replace("\\", "/"):
        return ()
    return (Flaw(FlawKind.FOREIGN_PATH, source, place, f"{said} was found as {match.name}"),)
