"""What a CSV file beside the pictures says of each: facts to slice the scores by, and its group and split.

    file,camera,age,group,split
    ants/1.jpg,north,3.5,colony 7,train
    bees/2.jpg,south,,hive 2,test

The file may come with an archive that nobody trusts: everything in it has a limit, and what is wrong with its rows
comes back together.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.contracts import LeftOut
from pipeline.errors import UserError, did_you_mean
from pipeline.source import UNPRINTABLE, Entry, Limits, open_source

MAX_BYTES = 50_000_000
MAX_COLUMNS = 50
"""Beside `file`."""
MAX_NAME = 64
"""Characters in the name of a column."""
MAX_VALUE = 200
SHOWN = 3
"""Wrong rows that an error names; it counts them all."""
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What people call the splits, in lower case."""


class Row(NamedTuple):
    """What is known of one file of the source."""

    values: dict[str, str]
    """Of each column but `group` and `split`; empty where the file says nothing."""
    group: str | None
    split: str | None


@dataclass(frozen=True)
class Metadata:
    """The rows of a file."""

    columns: tuple[str, ...]
    """Beside `file`."""
    rows: Mapping[str, tuple[str, ...]]
    """The values under them, by the name of the picture."""

    def of(self, name: str) -> Row:
        """What is known of one picture; nothing, if it has no row."""
        found = self.rows.get(name, ("",) * len(self.columns))
        values = dict(zip(self.columns, found, strict=True))
        group, split = values.pop("group", ""), values.pop("split", "")
        return Row(values, group or None, SPLIT_NAMES[split.lower()] if split else None)


NOTHING = Metadata((), {})


def find(path: str, name: str, entries: Sequence[Entry | LeftOut]) -> Metadata:
    """What the file `name` of a source says.

    Args:
        path: of the source.
        name: of the file within it.
        entries: every file of the source.

    Raises:
        UserError: there is no such file, it cannot be read, or something in it is wrong.
    """
    named = {entry.name: entry for entry in reversed(entries)}  # of two of one name, an archive gives the first
    where = f"data.metadata: {name} in {path}"
    entry = named.get(name)
    if entry is None:
        tables = sorted(other for other in named if other.lower().endswith(".csv"))
        hint = did_you_mean(name, tables) or f" Its CSV files: {', '.join(tables[:8]) or 'none'}."
        raise UserError(f"data.metadata: {path} has no file {name!r}.{hint}")
    if isinstance(entry, Entry):
        for item in open_source(path, Limits(file_bytes=MAX_BYTES)).stream({name}):
            if isinstance(item, LeftOut):
                entry = item
            else:
                return parse(item[1], named.keys(), where)
    reason = entry.reason if isinstance(entry, LeftOut) else "it has just gone"
    raise UserError(f"{where} cannot be read: {reason}.")


def parse(data: bytes, names: Collection[str], where: str) -> Metadata:
    """Read a CSV file of metadata.

    Args:
        data: as it lies in the source.
        names: of every file of the source.
        where: the place of the file, for errors.

    Raises:
        UserError: it is no such file, or says of a file that is not there.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 (byte {error.start:,}). Save it as UTF-8.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: tuple[str, ...] | None = None
    rows: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    count = 0
    try:
        for cells in reader:
            if columns is None:
                columns = _columns(cells, where)
            elif cells:
                name, *values = cells
                row = tuple(sys.intern(value.strip()) for value in values)  # the same few, a million times
                faults = [f"line {reader.line_num}: {fault}" for fault in _faults(name, row, columns, rows, names)]
                problems += faults[: SHOWN - len(problems)]
                count += len(faults)
                if not faults:
                    rows[name] = row
    except csv.Error as error:
        raise UserError(f"{where} is no CSV: line {reader.line_num}: {error}. Mend it.") from None
    if columns is None:
        raise UserError(f"{where} is empty. Expected a first line such as 'file,camera'.")
    if problems:
        raise UserError(_summary(problems, count, where))
    return Metadata(columns, rows)


def _columns(header: list[str], where: str) -> tuple[str, ...]:
    """The names of the columns beside `file`, checked."""
    file, *columns = (cell.strip() for cell in header) if header else ("",)
    fault = None
    if file != "file":
        fault = f"its first column is {_shown(file)}; expected 'file', and commas between the columns"
    elif not columns:
        fault = "it has no column beside 'file'"
    elif len(columns) > MAX_COLUMNS:
        fault = f"{len(columns):,} columns beside 'file'; the limit is {MAX_COLUMNS}"
    elif odd := [name for name in columns if not name or len(name) > MAX_NAME or UNPRINTABLE.search(name)]:
        fault = f"a column is named {_shown(odd[0])}; expected 1 to {MAX_NAME} characters, and no control characters"
    elif twice := [name for name in ("file", *columns) if ["file", *columns].count(name) > 1]:
        fault = f"two columns are named {twice[0]!r}; keep one"
    if fault:
        raise UserError(f"{where}: {fault}.")
    return tuple(columns)


def _faults(
    name: str, row: tuple[str, ...], columns: tuple[str, ...], earlier: Collection[str], names: Collection[str]
) -> Iterator[str]:
    """What is wrong with one row."""
    if len(row) != len(columns):
        yield f"{len(row) + 1} values; the first line has {len(columns) + 1}"
    elif name in earlier:
        yield f"a second row for {_shown(name)}"
    elif name not in names:
        yield f"the source has no file {_shown(name)}"
    for column, value in zip(columns, row, strict=False):
        if len(value) > MAX_VALUE:
            yield f"{len(value):,} characters under {column!r}; the limit is {MAX_VALUE}"
        elif UNPRINTABLE.search(value):
            yield f"line ends or control characters under {column!r}"
        elif column == "split" and value and value.lower() not in SPLIT_NAMES:
            hint = did_you_mean(value.lower(), SPLIT_NAMES) or " Expected train, val or test, or nothing"
            yield f"no split is named {value!r}.{hint}"


def _summary(shown: list[str], count: int, where: str) -> str:
    """The first few problems, and how many there are."""
    listed = " ".join(f"{text[0].upper()}{text[1:]}{'' if text.endswith('?') else '.'}" for text in shown)
    more = f" And {count - len(shown):,} more." if count > len(shown) else ""
    return (
        f"{where}: {count:,} problem{'s' * (count > 1)}. {listed}{more} "
        "Mend these rows or take them out; a file is named as it lies in the source."
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…")
