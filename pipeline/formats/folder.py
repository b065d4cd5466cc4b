"""One folder per class, in a folder or an archive, with or without folders for the splits above the classes.

    ants/1.jpg  bees/2.jpg                         split by content
    train/ants/1.jpg  val/ants/2.jpg  ...          split as given; a split that is missing is taken from train

Folders around these (`hymenoptera/data/train/...`) are descended. The folders that hold pictures, by suffix, are the
classes; where these lie in two places nothing is guessed. Every file of the source is a sample, or left out with a
reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar
from unicodedata import normalize

from pydantic import Field

from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.errors import UserError, did_you_mean
from pipeline.formats._metadata import NOTHING, SPLIT_NAMES, Metadata, find
from pipeline.formats._names import PICTURES, base, below, clutter, folder, parent, suffix
from pipeline.source import Entry, open_source


class Config(FormatConfig):
    """Options of a folder or archive of class folders."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.LABEL})

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets."""
    metadata: str = ""
    """A CSV file within it: `file` (the name within it), and columns to slice by; `group` and `split` count as such."""

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By folders of pictures, two or more; any other format may have these too."""
        pictures = [name for name in names if suffix(name) in PICTURES and not clutter(name)]
        try:
            layout = lay_out(pictures, "", "")
        except UserError:
            return None
        labels = sorted({label for label, _ in layout.folders.values()})
        if len(labels) < 2:
            return None
        shown = f"{', '.join(labels[:3])}{', ...' if len(labels) > 3 else ''}"
        return Recognised(1, f"pictures lie in {len(labels):,} folders: {shown}")

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """Name, size and time of each picture, by suffix, and a zip's checksum. A packed tar is read whole for it.

        Metadata is not learnt from: another value makes no picture new.
        """
        inside = folder(self.inside)
        for entry in open_source(self.path).entries():
            if isinstance(entry, LeftOut) or not below(entry.name, inside):
                continue
            if suffix(entry.name) in PICTURES and not clutter(entry.name):
                yield "\t".join(map(str, entry))

    def read(self) -> Iterator[Found | LeftOut]:
        """Every file of the source once."""
        source = open_source(self.path)
        entries = list(source.entries())
        beside = folder(self.metadata)
        metadata = find(self.path, beside, entries) if beside else NOTHING
        names = []
        for entry in entries:
            if beside and entry.name == beside:
                yield LeftOut(entry.name, "the metadata of the others (data.metadata)")
            elif isinstance(entry, LeftOut):
                yield entry
            elif reason := clutter(entry.name):
                yield LeftOut(entry.name, reason)
            else:
                names.append(entry.name)
        layout = lay_out(names, self.inside, self.path)
        yield from (LeftOut(name, layout.reason(name)) for name in names if parent(name) not in layout.folders)
        for item in source.stream({name for name in names if parent(name) in layout.folders}):
            if isinstance(item, LeftOut):
                yield item
            else:
                yield _sample(*item, layout, metadata)


@dataclass(frozen=True)
class Layout:
    """Where the classes of a source lie."""

    inside: str
    folders: dict[str, tuple[str, str | None]]
    """Of each class folder: its class and its split."""

    def reason(self, name: str) -> str:
        """Why a file outside the class folders is left out."""
        return "outside any class folder" if below(name, self.inside) else f"outside data.inside ({self.inside})"


def _sample(entry: Entry, data: bytes, layout: Layout, metadata: Metadata) -> Found:
    """One picture, with what its folder and its metadata say.

    Raises:
        UserError: they name different splits.
    """
    label, split = layout.folders[parent(entry.name)]
    values, group, said = metadata.of(entry.name)
    if split and said and split != said:
        raise UserError(
            f"data.metadata: {entry.name} lies in {split!r}, but the metadata puts it in {said!r}. "
            "Move the picture, or leave its split empty."
        )
    return Found(entry.name, data, {Target.LABEL: label}, split or said, group, values)


def lay_out(names: Iterable[str], inside: str, path: str) -> Layout:
    """Find the class folders among the names of a source.

    Raises:
        UserError: there are none, or they lie in several places.
    """
    names = list(names)
    inside = folder(inside)
    chosen = [name for name in names if below(name, inside)]
    if not chosen:
        raise UserError(_nothing(names, inside, path))
    homes = {parent(name) for name in chosen if suffix(name) in PICTURES} or {parent(name) for name in chosen}
    places: dict[str, dict[str, tuple[str, str | None]]] = defaultdict(dict)
    for home in homes - _above_all(homes):
        above, label = parent(home), normalize("NFC", base(home))
        split = SPLIT_NAMES.get(base(above).lower())
        places[parent(above) if split else above][home] = (label, split)
    if not places or (places.keys() == {""} and places[""].keys() == {""}):
        raise UserError(
            f"{path}: its {len(chosen):,} files lie in no class folder. Expected one folder per class, "
            "as in ants/1.jpg and bees/2.jpg, or in train/ants/1.jpg."
        )
    if len(places) > 1:
        raise UserError(_several(places, path))
    return Layout(inside, _settled(next(iter(places.values())), path))


def _settled(folders: dict[str, tuple[str, str | None]], path: str) -> dict[str, tuple[str, str | None]]:
    """Class folders of one place: with splits, if it has several."""
    splits = {split for _, split in folders.values() if split}
    if splits:  # folders beside the split folders are no classes
        folders = {home: found for home, found in folders.items() if found[1]}
    elif len(folders) > 1 and all(label.lower() in SPLIT_NAMES for label, _ in folders.values()):
        raise UserError(
            f"{path}: the pictures lie directly in {', '.join(sorted(map(repr, folders)))}. Expected a folder per "
            "class in each, as in train/ants/1.jpg."
        )
    if len(splits) == 1:  # a lone `train` is a folder around the classes, like any other
        return {home: (label, None) for home, (label, _) in folders.items()}
    return folders


def _above_all(homes: set[str]) -> set[str]:
    """Folders with pictures that all other such folders lie below: their pictures are in no class."""
    shortest = sorted(homes, key=len)
    above: set[str] = set()
    for count, home in enumerate(shortest, start=1):
        if count == len(shortest) or not all(below(other + "/", home) for other in shortest[count:]):
            break
        above.add(home)
    return above


def _several(places: dict[str, dict[str, tuple[str, str | None]]], path: str) -> str:
    labels = {place or ".": sorted({label for label, _ in folders.values()}) for place, folders in places.items()}
    shown = [f"{place} ({len(found)}: {', '.join(found[:3])})" for place, found in sorted(labels.items())]
    more = f" and {len(shown) - 6} more" if len(shown) > 6 else ""
    nested = any(below(other, place) for place in places for other in places if place != other)
    return (
        f"{path}: the folders with pictures lie in {len(shown)} places: {'; '.join(shown[:6])}{more}. "
        f"Set data.inside to the one whose folders are the classes{', or move the deeper ones out' if nested else ''}."
    )


def _nothing(names: list[str], inside: str, path: str) -> str:
    if not names:
        return f"{path}: it holds no pictures. Expected one folder per class, as in ants/1.jpg and bees/2.jpg."
    folders = {parent(name) for name in names}
    folders |= {parent for folder in folders for parent in _ancestors(folder)}
    near = did_you_mean(inside, folders - {""})
    listed = ", ".join(sorted(folders - {""}, key=lambda folder: (folder.count("/"), folder))[:8]) or "none"
    return f"data.inside: {path} has no folder {inside!r}.{near or f' Its folders: {listed}.'}"


def _ancestors(folder: str) -> Iterator[str]:
    while folder:
        folder = parent(folder)
        yield folder
