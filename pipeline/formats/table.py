"""Pictures that a table names, in CSV, TSV, JSON lines or Parquet.

    file,target                                       a class for each picture
    images/1.png,7
    file,labels                                       several classes for a picture: "cat;dog", "cat|dog", "cat, dog"
    file,cat,dog                                      or a column of zeros and ones for each
    filename,width,height,class,xmin,ymin,xmax,ymax   a box in each row; several rows for a picture
    1.jpg,650,417,raccoon,81,88,522,408
    file,nose_x,nose_y,chin_x,chin_y                  x and y of named points; or 0, 1, 2, 3, ... as their columns
    image,mask                                        a mask for each picture
    image,rooms,price                                 numbers for each picture, those that `numbers` names

Columns are found by their names, and that of the pictures by whether its values are files of the source. A name may be
relative to the table or to the source, without suffix, or of another machine; it is never an address, and nothing is
fetched. Boxes are two corners in pixels (`xmin`, `x1`, `left`), or a corner and a size (`x`, `y`, `w`, `h`), or shares
of the picture where all numbers of all tables lie in 0..1, or hardly beyond. `split` and `group` count as such; of the
other columns those of short values, up to 50, are metadata to slice by. Tables named by splits (`train_labels.csv`)
belong together, and one that holds all is then left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from pipeline.annotations import Flaw, FlawKind
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.formats import _class_files, _mask_kinds, _table_columns, _table_files
from pipeline.formats._class_lists import Names
from pipeline.formats._files import PICTURES, Listing, clutter, parent, suffix
from pipeline.formats._label_sets import Asked
from pipeline.formats._mask_look import look
from pipeline.formats._names import folder_splits
from pipeline.formats._samples import Joined, joined, lines, lost
from pipeline.formats._table_choice import gather
from pipeline.formats._table_columns import Layout
from pipeline.formats._table_rows import Reading
from pipeline.formats._table_said import Said, parts
from pipeline.source import open_source

TRIED = 20
"""Tables of a source that are looked into to recognise it."""


class Config(FormatConfig):
    """Options of a table of pictures."""

    gives: ClassVar[frozenset[Target]] = frozenset(
        {Target.LABEL, Target.LABELS, Target.NUMBERS, Target.POINTS, Target.OBJECTS, Target.MASK}
    )

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets."""
    table: str = ""
    """The table within it; empty: found out, also where there is one for each split."""
    header: tuple[str, ...] = ()
    """Names of the columns, where no first line says them, `[rooms, area, price]`: then also of text between blanks."""
    image: str = ""
    """The column that names pictures, or a pattern of their names, `{row}_*.jpg`: in braces the number of the row, from
    1, or a column. Several pictures of a row are one group. Empty: found out."""
    label: str = ""
    """The column of the classes; empty: found out."""
    labels: tuple[str, ...] = ()
    """Columns of zeros and ones, each of a class; empty: all that there are, where no other column names classes."""
    numbers: tuple[str, ...] = ()
    """Columns of numbers that are to be learnt, `[price]`; they are no metadata."""
    separator: str = ""
    """Between several classes in one cell; empty: `;`, `|` or `,`, the first of these that some cell holds."""

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By the header and the first rows of its tables."""
        known = _table_columns.bases([name for name in names if suffix(name) in PICTURES])
        tables = [name for name in names if suffix(name) in _table_files.SUFFIXES and not clutter(name)]
        for name in sorted(tables, key=lambda name: (name.count("/"), name))[:TRIED] if known else ():
            table = _table_files.head(peek(name), name)
            roles = _table_columns.roles(table, known) if table else None
            if table and roles and roles.useful:
                return Recognised(2, f"{name} names pictures under {table.columns[roles.image]!r}")
        return None

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """Name, size and time of each picture, and what the table says of it."""
        listing = Listing.of(self.path, self.inside)
        said = gather(listing, self.table, self.image, self.label, self._sets, self._layout)[0].said
        told = {
            name: (sorted(of.labels), sorted(of.members or ()), of.things, of.points, *sorted(of.numbers))
            for name, of in said.items()
        }
        yield from lines(listing, parts(said, listing.pictures - _masks(said)), told)

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Every picture of the source with what the tables say of it."""
        listing = Listing.of(self.path, self.inside)
        reading, tables, left_out = gather(listing, self.table, self.image, self.label, self._sets, self._layout)
        yield from listing.left_out
        yield from left_out
        yield from reading.flaws
        masks = _masks(reading.said)
        named, odd = _class_files.find(listing, min(masks)) if masks else (Names(), [])
        yield from odd
        homes = {parent(mask) for mask in masks} - {parent(picture) for picture in reading.said}
        done = {*tables, *masks, *(item.name for item in left_out), named.file, *(flaw.source for flaw in odd)}
        others = []
        for name in listing.names:
            if name in done or name in reading.said:
                continue
            if name not in listing.pictures:
                yield LeftOut(name, "by its suffix no picture")
            elif parent(name) in homes:
                yield LeftOut(name, "it lies among the masks, and no table names it")
            else:
                others.append(name)
        meaning = _mask_kinds.meaning(look(listing, masks), named, (), None) if masks else None
        by_folder = folder_splits(reading.said)
        for item in joined(listing, parts(reading.said, others)):
            if isinstance(item, LeftOut):
                yield item
            else:
                of = reading.said.get(item.name, Said())
                yield from _samples(item, of, of.split or by_folder.get(item.name), reading, meaning)

    @property
    def _layout(self) -> Layout:
        return Layout(self.header, self.numbers)

    @property
    def _sets(self) -> Asked:
        return Asked(self.labels, self.separator)


def _masks(said: Mapping[str, Said]) -> set[str]:
    return {mask for of in said.values() for mask in of.masks}


def _samples(
    item: Joined, of: Said, split: str | None, reading: Reading, meaning: _mask_kinds.Meaning | None
) -> Iterator[Found]:
    """A picture; twice, if the table says of it what cannot both be true."""
    names = tuple(of.masks)
    flaws = [*of.flaws, *lost(item, names)]
    if len(of.splits) > 1:
        first, second = list(of.splits.values())[:2]
        file, _, place = second.partition(": ")
        flaws.append(Flaw(FlawKind.DUPLICATE, file, place, f"{first} puts the picture into another split"))
    painted = [
        meaning.painted([name], [data])
        for name, data in zip(names, item.parts, strict=True)
        if data is not None and meaning
    ]
    labels = list(of.labels)
    numbers = [dict(found) for found in of.numbers]
    for count in range(max(1, len(labels), len(painted), len(numbers))):
        annotation: dict[Target, Any] = {}
        if labels:
            annotation[Target.LABEL] = labels[min(count, len(labels) - 1)]
        if numbers:
            annotation[Target.NUMBERS] = numbers[min(count, len(numbers) - 1)]
        if of.members is not None:
            annotation[Target.LABELS] = frozenset(of.members)
        if painted:
            annotation[Target.MASK] = painted[min(count, len(painted) - 1)]
        if (objects := of.objects(reading.relative)) is not None:
            annotation[Target.OBJECTS] = objects
        if (points := of.placed(reading.points_relative)) is not None:
            annotation[Target.POINTS] = points
        annotation = {} if of.misplaced else annotation
        yield Found(item.name, item.data, annotation, split, of.group, of.metadata or {}, tuple(flaws))
