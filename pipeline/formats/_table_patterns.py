"""Tables that do not name their pictures: the names follow a pattern, `{row}_*.jpg`.

In braces stands `row`, the number of the row from 1, or a column; `*` is anything but a slash. A pattern with `*` may
mean several pictures, which belong together: they are one group, named by the row.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Mapping

from pipeline.errors import UserError, did_you_mean
from pipeline.formats._files import stem
from pipeline.formats._table_files import Row, Table

FIELD = re.compile(r"\{([^{}]*)\}")
ROW = "row"


def is_pattern(image: str) -> bool:
    """Whether `data.image` is a pattern, and no column."""
    return FIELD.search(image) is not None


def expanded(table: Table, pattern: str, pictures: Collection[str], named: bool) -> Table:
    """The table with a row for each picture that belongs to one of its rows.

    Args:
        table: as it is.
        pattern: of the names.
        pictures: of the source.
        named: whether the table is the only one, so that the number of a row is enough to name a group.

    Returns:
        The same with two more columns: the picture, named by the pattern itself, and the group, where the pattern has
        a `*` and the table has no column of groups. A row without pictures keeps its name as the pattern has it.

    Raises:
        UserError: the pattern names no such column, or begins with `*`.
    """
    wanted = FIELD.findall(pattern)
    for name in wanted:
        if name != ROW and name not in table.columns:
            hint = did_you_mean(name, (ROW, *table.columns)) or f" It has: row, {', '.join(table.columns[:12])}."
            raise UserError(f"data.image: {table.name} has no column {name!r}.{hint}")
    if "{" not in pattern.partition("*")[0]:
        raise UserError(f"data.image: {pattern!r}: put {{row}} or a column before the first *, as in '{{row}}_*.jpg'.")
    depth = pattern.count("/") + 1
    keys = sorted(("/".join(name.split("/")[-depth:]), name) for name in pictures)
    grouped = "*" in pattern and not any(column.strip().lower() == "group" for column in table.columns)
    rows = []
    for row in table.rows:
        number = str(row.number)
        values = {ROW: number, **dict(zip(table.columns, map(_text, row.cells), strict=True))} | {ROW: number}
        group = (number if named else f"{stem(table.name)} {number}",) if grouped else ()
        found = _matching(pattern, values, keys) or [_filled(pattern, values)]
        rows += [Row(row.place, (*row.cells, name, *group), row.number) for name in found]
    return Table(table.name, (*table.columns, pattern, *(("group",) if grouped else ())), rows, table.flaws)


def _text(cell: object) -> str:
    return "" if cell is None else str(cell).strip()


def _filled(pattern: str, values: Mapping[str, str]) -> str:
    return FIELD.sub(lambda match: values[match[1]], pattern)


def _matching(pattern: str, values: Mapping[str, str], keys: list[tuple[str, str]]) -> list[str]:
    """The pictures whose names begin as the pattern does, and go on as it does: of many names few are looked at."""
    first, _, _ = pattern.partition("*")
    start = _filled(first, values)
    whole = "[^/]*".join(re.escape(_filled(part, values)) for part in pattern.split("*"))
    found, at = [], bisect_left(keys, (start, ""))
    while at < len(keys) and keys[at][0].startswith(start):
        if re.fullmatch(whole, keys[at][0]):
            found.append(keys[at][1])
        at += 1
    return found
