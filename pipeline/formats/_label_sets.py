"""Several classes of one picture: in one cell of a table or line of a list, or each in a column of zeros and ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.errors import UserError, did_you_mean

SEPARATORS = (";", "|", ",")
"""What may stand between classes, the surest first: a name may hold a comma."""
YES = frozenset(("1", "1.0", "true", "yes"))
NO = frozenset(("0", "0.0", "false", "no"))
FEWEST = 2
"""Columns of zeros and ones that are classes, where nobody says so."""


class Asked(NamedTuple):
    """How a source is said to write several classes."""

    columns: tuple[str, ...] = ()
    """Of zeros and ones; empty: found out."""
    separator: str = ""
    """Between the classes of one cell; empty: found out."""


NOT_ASKED = Asked()


def separator(texts: Iterable[str], said: str = "") -> str:
    """What stands between classes in some of these cells; empty if each holds one alone.

    Args:
        texts: the cells.
        said: what it is, if that is known.
    """
    wanted, seen = (said,) if said else SEPARATORS, set[str]()
    for text in texts:
        seen |= {one for one in wanted if one in text}
    return next((one for one in wanted if one in seen), "")


def parted(text: str, between: str) -> frozenset[str]:
    """The classes of a cell."""
    return frozenset(name.strip() for name in (text.split(between) if between else [text])) - {""}


def flags(columns: Sequence[str], places: Iterable[int], rows: Sequence[Sequence[str]]) -> dict[str, int]:
    """Of columns of a table those of zeros and ones, by their names; none if there are fewer than two.

    Args:
        columns: names of all.
        places: of those that may be some.
        rows: of the table, as text.
    """
    found = {}
    for at in places:
        values = {row[at].lower() for row in rows} - {""}
        if values and values <= YES | NO:
            found[columns[at]] = at
    said = any(row[at].lower() in YES for row in rows for at in found.values())
    return found if said and len(found) >= FEWEST else {}


def chosen(columns: Sequence[str], wanted: Sequence[str], table: str) -> dict[str, int]:
    """The places of columns that the options name.

    Raises:
        UserError: there is no such column.
    """
    for name in wanted:
        if name not in columns:
            hint = did_you_mean(name, columns) or f" It has: {', '.join(columns[:12])}."
            raise UserError(f"data.labels: {table} has no column {name!r}.{hint}")
    return {name: columns.index(name) for name in wanted}


def flagged(cells: Mapping[str, str]) -> frozenset[str] | None:
    """The classes whose column says yes; None if every cell is empty.

    Args:
        cells: of one row, as text by their columns.

    Raises:
        ValueError: a cell says neither yes nor no.
    """
    if not any(cells.values()):
        return None
    for name, text in cells.items():
        if text and text.lower() not in YES | NO:
            raise ValueError(f"{name} is {text[:40]!r}; expected 0 or 1")
    return frozenset(name for name, text in cells.items() if text.lower() in YES)


def listed(cell: Any) -> bool:
    """Whether a cell of JSON or Parquet is a list by itself."""
    return isinstance(cell, list | tuple)
