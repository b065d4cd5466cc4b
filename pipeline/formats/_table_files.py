"""Tables as CSV, TSV, JSON lines and Parquet: their columns, and their rows with where each stands."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.annotations import Flaw, FlawKind
from pipeline.errors import UserError
from pipeline.formats._files import parsed as json_of
from pipeline.formats._files import suffix

SUFFIXES = ("csv", "tsv", "jsonl", "ndjson", "parquet")
PLAIN = ("txt", "data", "dat", "lst")
"""What may be one too, if it is named: text between blanks, mostly without a header."""
MAX_COLUMNS = 1000
MAX_NAME = 200
"""Characters in the name of a column."""
UNREADABLE_SHOWN = 1000
"""Rows of one table that cannot be read, before it is no table."""


class Row(NamedTuple):
    """One row."""

    place: str
    """`line 7`, or `row 7` of a file without lines."""
    cells: tuple[Any, ...]
    """Text of CSV and TSV; numbers and more of the others."""
    number: int
    """From 1: neither headers nor blank lines are rows, and those that cannot be understood are."""


@dataclass
class Table:
    """What a file holds."""

    name: str
    columns: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    flaws: list[Flaw] = field(default_factory=list)
    """One of each row that cannot be understood."""


def parsed(data: bytes, name: str, header: Sequence[str] = ()) -> Table:
    """A table from the contents of its file.

    Args:
        data: the contents.
        name: of the file; its suffix says what it is.
        header: the names of its columns, where a file of text has none.

    Raises:
        UserError: it is none.
    """
    kinds: dict[str, Callable[[bytes, str], Table]] = {
        "jsonl": _json_lines,
        "ndjson": _json_lines,
        "parquet": _parquet,
    }
    kind = kinds.get(suffix(name))
    table = kind(data, name) if kind else _csv(data, name, header)
    if len(table.columns) > MAX_COLUMNS:
        raise UserError(f"{name} has {len(table.columns):,} columns; the limit is {MAX_COLUMNS:,}.")
    if odd := [column for column in table.columns if len(column) > MAX_NAME or not column.isprintable()]:
        raise UserError(f"{name}: a column is named {odd[0][:MAX_NAME]!r}; expected at most {MAX_NAME} letters.")
    if twice := [column for column in table.columns if column and table.columns.count(column) > 1]:
        raise UserError(f"{name}: two columns are named {twice[0]!r}. Keep one.")
    if len(table.flaws) > UNREADABLE_SHOWN:
        raise UserError(
            f"{name}: {len(table.flaws):,} of its rows cannot be understood, the first in {table.flaws[0].place}: "
            f"{table.flaws[0].found}. Mend the table."
        )
    return table


def head(data: bytes, name: str, header: Sequence[str] = ()) -> Table | None:
    """The first rows of a table, from the first bytes of its file; None if it seems to be none."""
    whole = data if suffix(name) == "parquet" else data.rpartition(b"\n")[0] or data
    try:
        return parsed(whole, name, header)
    except UserError:
        return None


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 (byte {error.start:,}). Save it as UTF-8.") from None


def _csv(data: bytes, name: str, header: Sequence[str] = ()) -> Table:
    text = _text(data, name)
    first = text.partition("\n")[0]
    delimiter = "\t" if suffix(name) == "tsv" else max(",;\t", key=first.count)
    blanks = delimiter not in first and (bool(header) or suffix(name) in PLAIN)
    if blanks:
        text, delimiter = "\n".join(" ".join(line.split()) for line in text.split("\n")), " "
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = tuple(header) or tuple(cell.strip() for cell in next(reader, []))
    except csv.Error as error:
        raise UserError(f"{name} is no CSV: line {reader.line_num}: {error}. Mend it.") from None
    table = Table(name, columns)
    for cells in _cells(reader, table):
        place = f"line {reader.line_num}"
        if not cells:
            continue
        if len(cells) != len(columns):
            whose = "data.header" if header else "the first line"
            found = f"{len(cells)} values; {whose} has {len(columns)}"
            table.flaws.append(Flaw(FlawKind.UNREADABLE, name, place, found))
        else:
            words = tuple(sys.intern(cell.strip()) for cell in cells)
            table.rows.append(Row(place, words, len(table.rows) + len(table.flaws) + 1))
    return table


def _cells(reader: Any, table: Table) -> Iterator[list[str]]:
    """The rows that the reader understands; a flaw in place of each other."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            table.flaws.append(Flaw(FlawKind.UNREADABLE, table.name, f"line {reader.line_num}", f"no CSV: {error}"))


def _json_lines(data: bytes, name: str) -> Table:
    found: list[tuple[str, dict[str, Any], int]] = []
    flaws: list[Flaw] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(_text(data, name).split("\n"), start=1):  # text within may hold other line ends
        if not line.strip():
            continue
        try:
            row = json_of(line, "it")
            if not isinstance(row, dict):
                raise UserError("it is no JSON object")
        except UserError as error:
            flaws.append(Flaw(FlawKind.UNREADABLE, name, f"line {number}", str(error).removeprefix("it: ")[:200]))
            continue
        found.append((f"line {number}", row, len(found) + len(flaws) + 1))
        columns |= dict.fromkeys(row)
        if len(columns) > MAX_COLUMNS:
            break
    names = tuple(columns)
    rows = [Row(place, tuple(row.get(key) for key in names), number) for place, row, number in found]
    return Table(name, names, rows, flaws)


def _parquet(data: bytes, name: str) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        columns = tuple(column.name for column in file.schema_arrow if column.name and not _heavy(column.type))
        rows: list[Row] = []
        for batch in file.iter_batches(batch_size=10_000, columns=list(columns)):
            for row in batch.to_pylist():
                number = len(rows) + 1
                rows.append(Row(f"row {number}", tuple(row.get(key) for key in columns), number))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UserError(f"{name} is no Parquet table: {' '.join(str(error).split())[:200]}. Fetch it again.") from None
    return Table(name, columns, rows)


def _heavy(kind: Any) -> bool:
    """Whether a column holds bytes, as that of pictures in the table itself does."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(_heavy(kind.field(place).type) for place in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
