"""WebDataset: tar archives whose files belong together by name, each sample a picture and what is said of it.

    train-000000.tar:  0001.jpg  0001.cls   0002.jpg  0002.cls   ...
    a class is in      .cls, a number or a name; else in .json, under `label` or `class`; else in .txt, alone

The source is one such archive, or a folder or an archive of several, whose names say their splits. Samples stream by,
and their files should lie beside each other. Numbers are named by options, or by a `classes.txt`, see `_class_files`.

Source: https://github.com/webdataset/webdataset, "The WebDataset Format".
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import ClassVar

from pydantic import Field

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.errors import UserError
from pipeline.formats import _class_files
from pipeline.formats._class_files import ClassName
from pipeline.formats._class_lists import Names
from pipeline.formats._files import Listing, clutter, suffix
from pipeline.formats._names import folder_splits, splits
from pipeline.formats._nested import on_disk
from pipeline.formats._web_samples import Sample, class_of, complete, grouped
from pipeline.source import Entry, Source, open_source

SHARD = re.compile(r".+\.(tar|tgz|tar\.gz|tar\.bz2|tar\.xz)", re.IGNORECASE)


class Config(FormatConfig):
    """Options of a source of WebDataset shards."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.LABEL})

    path: str = Field(min_length=1)
    """A tar archive of samples, or a folder, .zip or tar of such archives; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets."""
    classes: tuple[ClassName, ...] = ()
    """Names of the classes 0, 1, ...; empty: from a file of the source, or the numbers are the names."""

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By files of one name, one of them `.cls`."""
        shards = [name for name in names if SHARD.fullmatch(name) and not clutter(name)]
        if not shards and not any(suffix(name) == "cls" for name in names):
            return None
        for shard in [None] if not shards else shards[:1]:
            inner = [name for name in names if not clutter(name)] if shard is None else _first_names(peek(shard))
            samples = [sample for sample in grouped(inner)[0].values() if sample.picture and sample.texts]
            if found := next((sample for sample in samples if "cls" in sample.texts), None):
                where = f" in {shard}" if shard else ""
                return Recognised(3, f"{found.texts['cls']} lies beside {found.picture}{where}")
            if shard and samples:
                return Recognised(2, f"{samples[0].names[1]} lies beside {samples[0].picture} in {shard}")
        return None

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each shard."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """The names and sizes of each sample's files."""
        listing = Listing.of(self.path, self.inside)
        for prefix, source, names in self._shards(listing):
            sizes = {entry.name: entry.size for entry in source.entries() if isinstance(entry, Entry)}
            for sample in grouped(names)[0].values():
                if sample.picture:
                    yield "\t".join(f"{prefix}{name}\t{sizes.get(name, 0)}" for name in sample.names)

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Every sample with its class; every other file, and why it is left out."""
        listing = Listing.of(self.path, self.inside)
        yield from listing.left_out
        shards = {name for name in listing.names if SHARD.fullmatch(name)}
        named, flaws = (Names(), []) if self.classes else _class_files.find(listing, min(shards, default=""))
        yield from flaws
        lists = {named.file, *(flaw.source for flaw in flaws)}
        if shards:
            yield from (LeftOut(n, "no shard") for n in listing.names if n not in shards and n not in lists)
        by_shard = splits(sorted(shards))
        classes = dict(enumerate(self.classes)) or dict(named.by_value)
        seen: set[str] = set()
        pictures = 0
        for prefix, source, names in self._shards(listing):
            if prefix:
                yield from (LeftOut(prefix + e.name, e.reason) for e in source.entries() if isinstance(e, LeftOut))
            by_folder = folder_splits(names)
            samples, left_out = grouped([name for name in names if prefix or name not in lists])
            yield from (LeftOut(prefix + item.name, item.reason) for item in left_out)
            for item in _complete(prefix, source, samples):
                if isinstance(item, LeftOut):
                    yield LeftOut(prefix + item.name, item.reason)
                    continue
                split = by_shard.get(prefix.rstrip("/")) or by_folder[item.names[0]]
                found = _found(item, classes, prefix, split)
                yield found
                pictures += isinstance(found, Found)
                seen |= set(found.annotation.values()) if isinstance(found, Found) else set()
        if not pictures:
            raise UserError(
                f"{self.path}: no samples of WebDataset. Expected tar archives of files such as 0001.jpg and 0001.cls."
            )
        yield from _class_files.empty(named.by_value.values(), seen, named.file)

    def _shards(self, listing: Listing) -> Iterator[tuple[str, Source, list[str]]]:
        """Of each shard what its names are to begin with, itself, and the names of its files.

        Raises:
            UserError: a shard cannot be read.
        """
        shards = [name for name in listing.names if SHARD.fullmatch(name)]
        if not shards:
            yield "", listing.source, list(listing.names)
        for name in shards:
            with on_disk(listing, name) as place:
                try:
                    source = open_source(str(place))
                    entries = [entry for entry in source.entries() if isinstance(entry, Entry)]
                except UserError as error:
                    raise UserError(f"{self.path}: {str(error).replace(str(place), name)}") from None
                yield f"{name}/", source, [entry.name for entry in entries]


def _complete(prefix: str, source: Source, samples: dict[str, Sample]) -> Iterator[Sample | LeftOut]:
    """As `complete`; an error names the shard, and not a copy of it."""
    try:
        yield from complete(source, samples)
    except UserError as error:
        raise UserError(str(error).replace(source.shown, prefix.rstrip("/") or source.shown)) from None


def _found(sample: Sample, classes: dict[int, str], prefix: str, split: str | None) -> Found | Flaw:
    data = sample.contents.get(sample.picture)
    label, flaw = class_of(sample, classes, prefix)
    if data is None:
        first = next(iter(sample.texts.values()), sample.picture)
        return Flaw(FlawKind.NO_PICTURE, prefix + first, "", "no picture of that name lies beside it")
    annotation = {} if label is None else {Target.LABEL: label}
    return Found(prefix + sample.picture, data, annotation, split, flaws=() if flaw is None else (flaw,))


def _first_names(head: bytes) -> list[str]:
    """The names of the files that the first bytes of a tar archive tell of."""
    names: list[str] = []
    with suppress(tarfile.TarError, OSError, EOFError, ValueError, OverflowError):
        with tarfile.open(fileobj=io.BytesIO(head), mode="r:*") as archive:
            for _ in range(100):
                if (member := archive.next()) is None:
                    break
                if member.isreg() and ".." not in member.name.split("/"):
                    names.append(member.name.lstrip("/"))
    return names
