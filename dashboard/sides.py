"""Challenger beside champion, image by image: which ones the new model fixes and which ones it breaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.compute as pc

from dashboard.answered import drawable
from dashboard.opened import Opened
from dashboard.pictures import Missing
from dashboard.told import Told, told
from pipeline.errors import UserError
from pipeline.registry import cases

if TYPE_CHECKING:
    from pipeline.answering import Marks

CHANGES = {"broken": "breaks", "fixed": "fixes", "both wrong": "both wrong", "both right": "both right"}
"""As the gate writes them, and as tabs name them."""
SIDES = ("champion", "challenger")
KEPT = ("id", *(f"{side}_{kind}" for side in SIDES for kind in ("marks", "mask")))
"""Columns of what is to be drawn."""
SLICE = "slice:"
FEW = 30


class Data(NamedTuple):
    """The version of the data whose images were compared."""

    digest: str
    located: bool
    """Whether answers lie somewhere in the pictures, and are drawn on them."""


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
    beside: bool
    """Whether answers are more than words, and shown beside the truth."""


def compared(case: str, wanted: Wanted, number: int, per_page: int, data: Data) -> Images:
    """The images of a case that are wanted.

    Args:
        case: its id.
        wanted: which of them.
        number: of the page, from 1.
        per_page: images on one.
        data: that they are of.
    """
    try:
        table = _table(case)
    except UserError as error:
        return Images([], "", {}, 0, 1, 1, [], [], [], str(error), beside=False)
    fits = _fitting(table, wanted)
    counts = {name: int(pc.sum(pc.equal(fits.column("change"), name)).as_py() or 0) for name in CHANGES}
    show = wanted.show if wanted.show in CHANGES else next((name for name, count in counts.items() if count), "broken")
    found = fits.filter(pc.equal(fits.column("change"), show))
    # The surest answers first: where the challenger is sure and wrong there is most to learn.
    found = found.sort_by([("challenger_confidence", "descending"), ("id", "ascending")])
    pages = max(1, -(-found.num_rows // per_page))
    number = min(number, pages)
    rows = [_shown(case, row, data) for row in found.slice((number - 1) * per_page, per_page).to_pylist()]
    answers = [one for row in rows for one in row["told"].values()]
    return Images(
        shown=rows,
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
        beside=data.located or any(one.bars or one.other for one in answers),
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


def marks(case: str, side: str, version: Opened, row: Mapping[str, Any]) -> Marks:
    """What one of both says of an image, to be drawn.

    Args:
        case: its id.
        side: of `SIDES`.
        version: of the data.
        row: of the image, of `samples.parquet`.

    Raises:
        Missing: nothing is kept of it, or it cannot be drawn.
    """
    try:
        table = _kept(case)
    except UserError:
        raise Missing("not on this machine") from None
    said = table.filter(pc.equal(table.column("id"), row["id"])).to_pylist()
    text = said[0].get(f"{side}_marks") if said else None
    if text is None:
        raise Missing("no answer to it")
    return drawable(text, said[0].get(f"{side}_mask"), version, row)


def _shown(case: str, row: dict[str, Any], data: Data) -> dict[str, Any]:
    """An image with both answers as they are shown: `told` of each of `SIDES`."""
    kept = _kept(case)
    place = pc.index(kept.column("id"), row["id"]).as_py()

    def other(position: int) -> str:
        known = 0 <= position < len(kept)
        return f"/pictures/{data.digest}/{kept.column('id')[position].as_py()}" if known else ""

    def one(side: str) -> Told:
        text = kept.column(f"{side}_marks")[place].as_py() if f"{side}_marks" in kept.column_names else None
        if data.located:
            return Told(row[side], "" if text is None else f"/decisions/{case}/{side}/{row['id']}")
        return told(row[side], row["label"], text, other)

    return {**row, "told": {side: one(side) for side in SIDES}}


@lru_cache(maxsize=2)
def _table(case: str) -> pa.Table:
    """What is listed of a case, which never changes."""
    table = cases.images(case)
    return table.drop_columns([name for name in KEPT[1:] if name in table.column_names])


@lru_cache(maxsize=1)
def _kept(case: str) -> pa.Table:
    """What is to be drawn, some megabytes."""
    return cases.images(case, KEPT)
