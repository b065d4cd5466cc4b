"""What files of annotations say of pictures, brought together with the pictures; every other file gets its reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import Found, LeftOut, Target
from pipeline.formats._class_lists import MAX_BYTES, Names, parsed
from pipeline.formats._files import Listing
from pipeline.formats._names import PICTURES, below, clutter, folder, folder_splits, parent, stem, suffix
from pipeline.formats._samples import joined
from pipeline.source import Entry, open_source

NO_ROLE = "neither a picture nor a file of annotations"
ELSEWHERE = "in a folder with no picture that a file of annotations names"
PEEKED = 8
"""Files of annotations that are looked into to find out the format of a source."""

Story = tuple[Mapping[Target, Any], Sequence[Flaw]]


@dataclass(frozen=True)
class Said:
    """What a source says of one picture."""

    tell: Callable[[Mapping[str, bytes]], Story]
    """From the contents of `masks` to the annotation and its flaws; late, so that memory holds what is short."""
    split: str | None = None
    masks: tuple[str, ...] = ()
    """Files whose contents are part of the annotation."""
    picture: Callable[[bytes], bytes] = field(default=bytes)
    """From the contents of the file to the encoded picture: a file of annotations may hold one."""


def deliver(
    listing: Listing,
    said: Mapping[str, Said],
    read: Collection[str],
    reasons: Mapping[str, str],
    splits: Mapping[str, str | None] | None = None,
) -> Iterator[Found | LeftOut]:
    """Every file of a source, but for those of annotations.

    Pictures in the folders of those of which something is said are found too, without annotation. Where nothing is
    said of any picture, all are.

    Args:
        listing: of the source.
        said: of each picture by its name, inside or outside of `data.inside`.
        read: the files of annotations.
        reasons: of files that are left out.
        splits: of pictures of which nothing is said; by their folders, if it is not given.
    """
    masks = {name for one in said.values() for name in one.masks}
    taken = {*said, *read, *reasons, *masks}
    homes = {parent(name) for name in said if suffix(name) in PICTURES}
    pool = listing.pictures | (listing.pictures_outside if homes else frozenset())
    silent = {name for name in pool - taken if not homes or parent(name) in homes}
    used = {*said, *read, *masks, *silent}
    yield from (one for one in listing.left_out if one.name not in used)
    for name in listing.names:
        if name not in used:
            default = ELSEWHERE if name in listing.pictures else NO_ROLE
            yield LeftOut(name, reasons.get(name, default))
    yield from _samples(listing, said, silent, folder_splits([*said, *silent]) if splits is None else splits)


def _samples(
    listing: Listing, said: Mapping[str, Said], silent: Collection[str], splits: Mapping[str, str | None]
) -> Iterator[Found | LeftOut]:
    """The pictures of which something is said, and others in their folders."""
    wanted = {name: said[name].masks if name in said else () for name in (*said, *silent)}
    for item in joined(listing, wanted):
        if isinstance(item, LeftOut):
            yield item
        elif item.name in silent:
            yield Found(item.name, item.data, {}, splits[item.name])
        else:
            one = said[item.name]
            parts = zip(one.masks, item.parts, strict=True)
            annotation, flaws = one.tell({name: data for name, data in parts if data is not None})
            yield Found(item.name, one.picture(item.data), annotation, one.split, flaws=tuple(flaws))


def class_lists(listing: Listing, names: Sequence[str]) -> dict[str, Names | Flaw]:
    """What files that list classes say, or why one says nothing."""
    found: dict[str, Names | Flaw] = {}
    for item in listing.contents(name for name in names if listing.sizes[name] <= MAX_BYTES) if names else ():
        if isinstance(item, LeftOut):
            found[item.name] = Flaw(FlawKind.UNREADABLE, item.name, "", item.reason)
        else:
            found[item[0]] = parsed(item[1], item[0])
    for name in names:
        found.setdefault(name, Flaw(FlawKind.UNREADABLE, name, "", f"{listing.sizes[name]:,} bytes of class names"))
    return found


def sample_lines(path: str, inside: str, *labels: str) -> Iterator[str]:
    """Of `FormatConfig.listing`: a line for each picture, with the facts of its files of annotations.

    Args:
        path: of the source.
        inside: the folder within it; pictures may lie outside of it, where it holds none.
        labels: suffixes of files of annotations that are named like their picture.
    """
    inside = folder(inside)
    entries = [e for e in open_source(path).entries() if isinstance(e, Entry) and not clutter(e.name)]
    facts: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        if suffix(entry.name) in labels and below(entry.name, inside):
            facts[stem(entry.name).lower()].append("\t".join(map(str, entry)))
    pictures = [entry for entry in entries if suffix(entry.name) in PICTURES]
    for entry in [e for e in pictures if below(e.name, inside)] or pictures:
        yield "\t".join([*map(str, entry), *sorted(facts[stem(entry.name).lower()])])


def heads(names: Sequence[str], peek: Callable[[str], bytes], *suffixes: str) -> Iterator[tuple[str, bytes]]:
    """The beginnings of the first few files with one of these suffixes, to find out the format of a source."""
    chosen = [name for name in names if suffix(name) in suffixes and not clutter(name)]
    for name in chosen[:PEEKED]:
        yield name, peek(name)
