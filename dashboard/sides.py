"""Challenger beside champion, image by image: which ones the new model fixes and which ones it breaks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UserError
from pipeline.registry import cases

CHANGES = {"broken": "breaks", "fixed": "fixes", "both wrong": "both wrong", "both right": "both right"}
"""As the gate writes them, and as tabs name them."""
SLICE = "slice:"
FEW = 30


class Wanted(NamedTuple):
    """Which images."""

    show: str
    """A key of `CHANGES`; empty for the first of them that has images."""
    label: str
    answer: str
    """Of the challenger."""
    part: str
    """`column=value` of a slice."""

    def query(self, case: str, **changes: Any) -> str:
        """The address of the same images with something changed."""
        values = {**self._asdict(), **changes}
        values["slice"] = values.pop("part")
        given = urlencode({key: value for key, value in values.items() if value})
        return f"/decisions/{case}{'?' if given else ''}{given}#images"


class Images(NamedTuple):
    """A page of them, and what there is to choose from."""

    shown: Sequence[dict[str, Any]]
    show: str
    counts: dict[str, int]
    total: int
    number: int
    pages: int
    labels: Sequence[str]
    answers: Sequence[str]
    parts: Sequence[str]
    gone: str
    """Why there are none, where they cannot be read."""


def compared(case: str, wanted: Wanted, number: int, per_page: int) -> Images:
    """The images of a case that are wanted."""
    try:
        table = _table(case)
    except UserError as error:
        return Images([], "", {}, 0, 1, 1, [], [], [], str(error))
    fits = _fitting(table, wanted)
    counts = {name: int(pc.sum(pc.equal(fits.column("change"), name)).as_py() or 0) for name in CHANGES}
    show = wanted.show if wanted.show in CHANGES else next((name for name, count in counts.items() if count), "broken")
    found = fits.filter(pc.equal(fits.column("change"), show))
    # The surest answers first: where the challenger is sure and wrong there is most to learn.
    found = found.sort_by([("challenger_confidence", "descending"), ("id", "ascending")])
    pages = max(1, -(-found.num_rows // per_page))
    number = min(number, pages)
    return Images(
        shown=found.slice((number - 1) * per_page, per_page).to_pylist(),
        show=show,
        counts=counts,
        total=found.num_rows,
        number=number,
        pages=pages,
        labels=_choices(table, "label"),
        answers=_choices(table, "challenger"),
        parts=[
            f"{name.removeprefix(SLICE)}={value}"
            for name in table.column_names
            if name.startswith(SLICE)
            for value in _values(table, name)
        ],
        gone="",
    )


def _fitting(table: pa.Table, wanted: Wanted) -> pa.Table:
    for column, value in (("label", wanted.label), ("challenger", wanted.answer)):
        if value:
            table = table.filter(pc.equal(table.column(column), value))
    column, _, value = wanted.part.partition("=")
    if value and f"{SLICE}{column}" in table.column_names:
        table = table.filter(pc.equal(table.column(f"{SLICE}{column}"), value))
    return table


def _choices(table: pa.Table, column: str) -> list[str]:
    """What can be asked for: classes, but not words that are otherwise for nearly every image, as `12 cells, 1 nut`."""
    values = _values(table, column)
    return values if len(values) <= FEW or 2 * len(values) <= table.num_rows else []


def _values(table: pa.Table, column: str) -> list[str]:
    return sorted(value for value in pc.unique(table.column(column)).to_pylist() if value is not None)


@lru_cache(maxsize=2)
def _table(case: str) -> pa.Table:
    """A case never changes."""
    return cases.images(case)
