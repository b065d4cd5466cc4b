"""Parquet files that hold the pictures themselves, as Hugging Face's `datasets` writes them.

    data/train-00000-of-00001.parquet     image {bytes, path}   label 3
    data/val-00000-of-00001.parquet       image {bytes, path}   labels [3, 5]
    data/train-00000-of-00001.parquet     image {bytes, path}   price 529000    (with `numbers: [price]`)
    data/test-00000-of-00001.parquet      image {bytes, path}   objects {bbox [[x, y, width, height]], category [0]}

The name of a file is its split. What a number stands for is read from the schema (ClassLabel); without it the numbers
are the names. Rows are read batch by batch. A picture is named by its file and its row:
`data/train-00000-of-00001.parquet/0000007`.

Source: https://huggingface.co/docs/datasets, "Image dataset", "Object detection".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import Field

from pipeline.annotations import Flaw, FlawKind, Objects, Thing
from pipeline.contracts import FormatConfig, Found, LeftOut, Recognised, Target
from pipeline.errors import UserError
from pipeline.formats import _class_files, _hugging_face
from pipeline.formats._files import PICTURES, Listing, base, clutter, suffix
from pipeline.formats._names import splits
from pipeline.formats._nested import on_disk
from pipeline.formats._numbers_of import numbers_of
from pipeline.formats._parquet_columns import Columns, columns_of
from pipeline.source import Entry, open_source

MAGIC = b"PAR1"
SHARD = re.compile(r".+-\d{5}-of-\d{5}(-[0-9a-f]+)?\.parquet")
BATCH = 64
"""Rows in memory at once."""


class Config(FormatConfig):
    """Options of a source of Parquet files with pictures in them."""

    gives: ClassVar[frozenset[Target]] = frozenset({Target.LABEL, Target.LABELS, Target.NUMBERS, Target.OBJECTS})

    path: str = Field(min_length=1)
    """A folder, .zip, .tar, .tar.gz (.tgz), .tar.bz2 or .tar.xz; `~` is your home."""
    inside: str = ""
    """A folder within it, where it holds several data sets."""
    image: str = ""
    """The column that holds pictures; empty: found out."""
    label: str = ""
    """The column of the classes; empty: found out."""
    numbers: tuple[str, ...] = ()
    """Columns of numbers that are to be learnt, `[price]`."""

    @classmethod
    def recognise(cls, names: Sequence[str], peek: Callable[[str], bytes]) -> Recognised | None:
        """By the schema of a small file, by the name of a large one."""
        files = [name for name in names if suffix(name) == "parquet" and not clutter(name)]
        for name in files[:4]:
            head = peek(name)
            if not head.startswith(MAGIC):
                continue
            if head.endswith(MAGIC):
                if columns := _columns_in(head, name):
                    return Recognised(3, f"{name} holds pictures in its column {columns.image!r}")
            elif SHARD.fullmatch(base(name)):
                return Recognised(3, f"{name} is named as Hugging Face's shards are")
            else:
                return Recognised(1 if any(suffix(other) in PICTURES for other in names) else 2, f"{name} is Parquet")
        return None

    def fingerprint(self) -> Iterator[str]:
        """Name, size and time of each file, or of the archive."""
        yield from open_source(self.path).fingerprint()

    def listing(self) -> Iterator[str]:
        """Each row by its number, with size and time of its file: a file that is written anew is new as a whole."""
        listing = Listing.of(self.path, self.inside)
        facts = {entry.name: entry for entry in listing.source.entries() if isinstance(entry, Entry)}
        for name in listing.with_suffix("parquet"):
            with self._opened(listing, name) as file:
                for row in range(file.metadata.num_rows):
                    yield f"{name}/{row}\t{facts[name].size}\t{facts[name].modified_ns}"

    def read(self) -> Iterator[Found | LeftOut | Flaw]:
        """Every row with a picture; every file that is not read, and why."""
        listing = Listing.of(self.path, self.inside)
        files = listing.with_suffix("parquet")
        by_file = splits(files)
        yield from listing.left_out
        yield from (LeftOut(name, "by its suffix no Parquet file") for name in listing.names if name not in files)
        found = False
        named: dict[str, str] = {}
        seen: set[str] = set()
        for name in files:
            with self._opened(listing, name) as file:
                columns = columns_of(file.schema_arrow, name, self.image, self.label, self.numbers)
                if columns is None:
                    yield LeftOut(name, "none of its columns holds pictures")
                else:
                    found = True
                    known = (columns.classes, columns.several_classes, columns.categories)
                    named = dict.fromkeys([label for one in known for label in one.values()], name) | named
                    for item in _rows(file, name, columns, by_file[name]):
                        seen |= _classes(item)
                        yield item
        for name, source in named.items():
            yield from _class_files.empty([name], seen, source)
        if not found:
            raise UserError(
                f"{self.path}: no Parquet file in it holds pictures. Expected a column of bytes or {{bytes, path}}; "
                "a table that names picture files is of the format `table`."
            )

    @contextmanager
    def _opened(self, listing: Listing, name: str) -> Iterator[Any]:
        """A Parquet file.

        Raises:
            UserError: it is none, or it is damaged, also where that shows only as it is read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        with on_disk(listing, name) as place:
            try:
                with pq.ParquetFile(place) as file:
                    yield file
            except (pa.ArrowException, OSError, OverflowError, ValueError) as error:  # text that is not UTF-8
                reason = " ".join(str(error).replace(str(place), name).split())[:200]
                raise UserError(
                    f"{self.path}: {name} is damaged or no Parquet file: {reason}. Fetch it again."
                ) from None


def _rows(file: Any, name: str, columns: Columns, split: str | None) -> Iterator[Found | Flaw]:
    row = 0
    for batch in file.iter_batches(batch_size=BATCH, columns=columns.wanted):
        for cells in batch.to_pylist():
            yield _sample(cells, name, row, columns, split)
            row += 1


def _classes(item: Found | Flaw) -> set[str]:
    """What a row is of."""
    if isinstance(item, Flaw):
        return set()
    objects = item.annotation.get(Target.OBJECTS, Objects(()))
    several = item.annotation.get(Target.LABELS, ())
    return {*(thing.name for thing in objects.things), *several, *[item.annotation.get(Target.LABEL, "")]}


def _sample(cells: Mapping[str, Any], file: str, row: int, columns: Columns, split: str | None) -> Found | Flaw:
    cell, place = cells[columns.image], f"row {row}"
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        where = f"; {str(cell['path'])[:200]} is not in the file" if isinstance(cell, dict) and cell.get("path") else ""
        return Flaw(FlawKind.NO_PICTURE, file, place, f"no picture stands there{where}")
    annotation: dict[Target, Any] = {}
    flaws: list[Flaw] = []
    try:
        if (numbers := numbers_of({number: cells[number] for number in columns.numbers})) is not None:
            annotation[Target.NUMBERS] = numbers
        if columns.label is not None:
            label = _hugging_face.class_name(cells[columns.label], columns.classes)
            annotation |= {} if label is None else {Target.LABEL: label}
        if columns.several is not None and cells[columns.several] is not None:
            labels = [_hugging_face.class_name(one, columns.several_classes) for one in cells[columns.several]]
            annotation[Target.LABELS] = frozenset(label for label in labels if label is not None)
    except KeyError as error:
        flaws.append(Flaw(FlawKind.UNKNOWN_CLASS, file, place, str(error.args[0])))
    except ValueError as error:
        flaws.append(Flaw(FlawKind.UNREADABLE, file, place, str(error)))
    if columns.objects is not None and cells[columns.objects] is not None:
        found = list(_hugging_face.things(cells[columns.objects], columns.categories, file, place))
        flaws += [one for one in found if isinstance(one, Flaw)]
        things = tuple(one for one in found if isinstance(one, Thing))
        annotation[Target.OBJECTS] = Objects(things, file)
    return Found(f"{file}/{row:07}", data, annotation, split, flaws=tuple(flaws))


def _columns_in(data: bytes, name: str) -> Columns | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return columns_of(pq.ParquetFile(pa.BufferReader(data)).schema_arrow, name)
    except (pa.ArrowException, OSError, OverflowError, ValueError):
        return None
