"""Coordinates of named points in the columns of a table.

left_eye_x,left_eye_y,nose_x,nose_y     by their names: a name and an axis, in either order
0,1,2,3                                 by numbers alone: x and y in turn, of the points 0 and 1
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pipeline.annotations import Place, Points
from pipeline.formats._table_files import Row, Table
from pipeline.formats._values import number, number_in, shown

LAST = re.compile(r"(.*[^ _.-])[ _.-]+([xy])", re.IGNORECASE)
FIRST = re.compile(r"([xy])[ _.-]*(.*[^ _.-])", re.IGNORECASE)
"""`x_nose`, and `x17` too."""
FEWEST = 2
"""Points that a table has, before its columns are taken for such."""
FEWEST_NUMBERED = 3
"""Likewise where they are called `x1` and `y1`, as the corners of boxes are."""
Columns = Mapping[str, tuple[int, int]]
"""Of each point by its name those of x and of y."""


def columns(table: Table, others: Collection[int]) -> Columns:
    """Where the points of a table stand; none, if it has not two or more.

    Args:
        table: with its rows, or the first of them.
        others: columns that are none of them, such as that of the pictures.
    """
    places = [at for at in range(len(table.columns)) if at not in others]
    for found, fewest in (
        (_named(table, places, LAST, (1, 2)), FEWEST),
        (_named(table, places, FIRST, (2, 1)), FEWEST_NUMBERED),
        (_numbered(table, places), FEWEST),
    ):
        if len(found) >= fewest and all(_numeric(table.rows, at) for pair in found.values() for at in pair):
            return found
    return {}


def told(cells: Sequence[Any], points: Columns, source: str, place: str) -> Points:
    """The points of a row.

    Args:
        cells: of the row.
        points: where they stand in it.
        source: the file.
        place: where in it.

    Raises:
        ValueError: something there is no number.
    """
    places: dict[str, Place | None] = {}
    for name, pair in points.items():
        x, y = (_number(cells[at]) for at in pair)
        places[name] = None if x is None or y is None else Place(x, y)
    return Points(places, source, place)


def _named(table: Table, places: Sequence[int], pattern: re.Pattern[str], parts: tuple[int, int]) -> Columns:
    axes: dict[str, dict[str, int]] = {}
    for at in places:
        if match := pattern.fullmatch(table.columns[at]):
            name, axis = match[parts[0]], match[parts[1]].lower()
            axes.setdefault(name, {}).setdefault(axis, at)
    return {name: (both["x"], both["y"]) for name, both in axes.items() if len(both) == 2}


def _numbered(table: Table, places: Sequence[int]) -> Columns:
    """All other columns, if they are numbered without a gap and are even in number."""
    names = [table.columns[at] for at in places]
    first = int(names[0]) if names and names[0] in ("0", "1") else 0
    if len(names) % 2 or names != [str(first + position) for position in range(len(names))]:
        return {}
    return {str(point): (places[2 * point], places[2 * point + 1]) for point in range(len(places) // 2)}


def _numeric(rows: Sequence[Row], at: int) -> bool:
    """Whether some cell of a column is a number, and as good as all that are not empty."""
    found = [number_in(cell) if isinstance(cell, str) else number(cell) for cell in (row.cells[at] for row in rows)]
    filled = sum(row.cells[at] not in ("", None) for row in rows)
    numbers = sum(value is not None for value in found)
    return numbers > 0 and 10 * (filled - numbers) <= filled


def _number(cell: Any) -> float | None:
    if cell is None or cell == "":
        return None
    found = number_in(cell) if isinstance(cell, str) else number(cell)
    if found is None:
        raise ValueError(f"a coordinate is {shown(cell)}; expected a number")
    return found
