"""Which picture in the source is meant by each that COCO files list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from pipeline.annotations import Flaw, FlawKind
from pipeline.errors import UserError
from pipeline.formats._coco_file import CocoFile, Listed
from pipeline.formats._coco_objects import objects, panoptic
from pipeline.formats._files import Listing, Match
from pipeline.formats._names import base, ends_with, folder_splits, parent, resolved, split_of, splits, stem
from pipeline.formats._said import Said, Story
from pipeline.formats._values import shown

Owner = tuple[CocoFile, Listed]


def assign(listing: Listing, files: Sequence[CocoFile]) -> tuple[dict[str, Said], list[Flaw]]:
    """What the files say of each picture, and the flaws of pictures that are not there.

    Raises:
        UserError: two files say something of one picture.
    """
    by_file = splits(file.name for file in files)
    pools = Pools(listing, mask_folders(listing, files))
    owners: dict[str, Owner] = {}
    clashes: dict[str, set[str]] = {}
    flaws: list[Flaw] = []
    for file in sorted(files, key=lambda file: file.kind == "pictures"):  # these give way to those that say something
        for listed in file.listed.values():
            place = f"image {shown(listed.id)}"
            match = pools.find(listed.said, file.name, by_file[file.name])
            if match.name is None:
                found = f"no picture, or more than one, is {shown(listed.said)}"
                flaws.append(Flaw(FlawKind.NO_PICTURE, file.name, place, found))
                continue
            other, first = owners.setdefault(match.name, (file, listed))
            if first is listed:
                _note_foreign(file, listed, match, place)
            elif other is file:
                found = f"{shown(listed.said)}: image {shown(first.id)} is that picture too"
                first.flaws.append(Flaw(FlawKind.DUPLICATE, file.name, place, found))
            elif file.kind != "pictures":
                clashes.setdefault(match.name, {other.name}).add(file.name)
    if clashes:
        raise UserError(_clash(listing.source.shown, clashes))
    by_folder = folder_splits(owners)
    return {
        name: _said(listing, file, listed, by_file[file.name] or by_folder[name])
        for name, (file, listed) in owners.items()
    }, flaws


def mask_folders(listing: Listing, files: Iterable[CocoFile]) -> dict[str, str]:
    """Folders of panoptic masks, each with the file that they belong to, whether it is read or not."""
    owners = [file.name for file in files if file.kind == "panoptic"]
    owners += [name for name in listing.with_suffix("json") if base(name).startswith("panoptic")]
    return {f"{parent(name)}/{stem(name)}".removeprefix("/"): name for name in owners}


def unused_masks(listing: Listing, folders: Mapping[str, str]) -> dict[str, str]:
    """Why the pictures in such folders are left out, unless they belong to the annotation of one."""
    masks = {name: folders[parent(name)] for name in listing.pictures if parent(name) in folders}
    return {name: f"a mask of {owner}, which does not name it or is not read" for name, owner in masks.items()}


class Pools:
    """The pictures of a source, for names to be looked up among those of a split first."""

    def __init__(self, listing: Listing, masks: Mapping[str, str]) -> None:
        self._listing = listing
        self._pools: list[tuple[set[str], dict[str | None, set[str]]]] = []
        for pictures in (listing.pictures, listing.pictures_outside):
            by_split: dict[str | None, set[str]] = {}
            every = {name for name in pictures if parent(name) not in masks}
            for name, split in folder_splits(every).items():
                by_split.setdefault(split, set()).add(name)
            self._pools.append((every, by_split))

    def find(self, said: str, file: str, split: str | None) -> Match:
        """The picture that a file of some split means: its own split's before those of none, never another's."""
        split = split or split_of(base(file))
        for every, by_split in self._pools:
            match = self._listing.find(said, file, every)
            if not match.exact and split in by_split and split:
                match = self._listing.find(said, file, by_split[split])
                if match.name is None:
                    match = self._listing.find(said, file, by_split.get(None, set()))
            if match.name is not None:
                return match
        return Match(None, False)


def _note_foreign(file: CocoFile, listed: Listed, match: Match, place: str) -> None:
    """COCO names pictures from their own folder on; only what contradicts the place is a flaw."""
    if not match.exact and not ends_with(match.name or "", listed.said):
        found = f"{shown(listed.said)} was found as {match.name}"
        listed.flaws.append(Flaw(FlawKind.FOREIGN_PATH, file.name, place, found))


def _said(listing: Listing, file: CocoFile, listed: Listed, split: str | None) -> Said:
    if file.kind == "pictures":
        return Said(partial(_nothing, listed), split)
    if file.kind == "objects":
        return Said(partial(_objects, file, listed), split)
    entries = file.annotations.get(listed.id)
    mask = _mask(listing, file, entries[0][1].get("file_name")) if entries else None
    return Said(partial(panoptic, file, listed, mask), split, (mask,) if mask else ())


def _objects(file: CocoFile, listed: Listed, masks: Mapping[str, bytes]) -> Story:
    return objects(file, listed)


def _nothing(listed: Listed, masks: Mapping[str, bytes]) -> Story:
    return {}, listed.flaws


def _mask(listing: Listing, file: CocoFile, said: object) -> str | None:
    if not isinstance(said, str):
        return None
    own = resolved(f"{parent(file.name)}/{stem(file.name)}", said)
    return own if own in listing.pictures else listing.find(said, file.name).name


def _clash(path: str, clashes: Mapping[str, set[str]]) -> str:
    name = min(clashes)
    files = sorted(set().union(*clashes.values()))
    more = f" and {len(files) - 8} more" if len(files) > 8 else ""
    return (
        f"{path}: several files say of the same {len(clashes):,} picture{'s' * (len(clashes) > 1)}, of {name} for one: "
        f"{', '.join(files[:8])}{more}. Set data.annotations to those to read, as in 'instances_*.json'."
    )
