"""What a run's model said of the test images, and which of them it does not answer perfectly: from its predictions.

Columns that every task has are enough for a list; what is to be drawn is kept of the run that was looked at last.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from dashboard.opened import Opened, task_named
from dashboard.pictures import Missing, fits
from flows.records import outputs
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.answering import Marks
    from pipeline.registry.runs import RunRecord

PREDICTIONS = "out/evaluation/predictions.parquet"
LISTED = ("id", "source", "actual", "answer", "quality", "confidence", "loss")
OLD = ("label", "predicted")
"""Class ids, of runs before there were tasks with other answers."""
DRAWN = ("id", "marks", "mask")
MOST_BYTES = 64_000_000
"""Of what is to be drawn for one run: more is read anew for each picture."""


class Mistake(NamedTuple):
    """An image that is not answered perfectly, and what was said of it."""

    id: str
    source: str
    actual: str
    answer: str
    quality: float
    confidence: float


class Found(NamedTuple):
    """A page of them."""

    rows: Sequence[Mistake]
    total: int
    of: int
    """Without a filter."""
    page: int
    pages: int


def located(record: RunRecord) -> bool:
    """Whether what the model of a run says lies somewhere in a picture, and is to be drawn on it."""
    task = task_named(str(record.params.get("task", {}).get("name", "")))
    return task is not None and task.learns.located


def found(record: RunRecord, actual: str, answer: str, page: int, size: int) -> Found:
    """The images that are not answered perfectly: the worst first, or, where an answer is right or wrong, the surest.

    Args:
        record: of the run.
        actual: what is true of them, in words; nothing for all.
        answer: what was said, likewise.
        page: from 1.
        size: images on a page.

    Raises:
        UserError: the answers are not on this machine.
    """
    import pyarrow.compute as pc

    every = _mistakes(record.id, record.version.digest)
    table = every
    for column, value in (("actual", actual), ("answer", answer)):
        if value:
            table = table.filter(pc.equal(table.column(column), value))
    pages = max(1, -(-table.num_rows // size))
    page = min(page, pages)
    rows = table.slice((page - 1) * size, size).select(Mistake._fields).to_pylist()
    return Found([Mistake(**row) for row in rows], table.num_rows, every.num_rows, page, pages)


def pairs(record: RunRecord, most: int) -> list[tuple[str, str, int]]:
    """What is taken for what most often, and how many images.

    Raises:
        UserError: the answers are not on this machine.
    """
    table = _mistakes(record.id, record.version.digest)
    counted = table.group_by(["actual", "answer"], use_threads=False).aggregate([("id", "count")])
    order = [("id_count", "descending"), ("actual", "ascending"), ("answer", "ascending")]
    rows = counted.sort_by(order).slice(0, most).to_pylist()
    return [(row["actual"], row["answer"], row["id_count"]) for row in rows]


def marks(record: RunRecord, version: Opened, row: Mapping[str, Any]) -> Marks:
    """What the model of a run says of an image, to be drawn.

    Args:
        record: of the run.
        version: of the data that it learnt from.
        row: of the image, of `samples.parquet`.

    Raises:
        Missing: nothing is said of this image, or it cannot be drawn.
    """
    import pyarrow.compute as pc

    from pipeline import masks
    from pipeline.answering import from_text

    try:
        table = _drawn.of(record)
    except UserError:
        raise Missing("not on this machine") from None
    said = table.filter(pc.equal(table.column("id"), row["id"])).to_pylist()
    if not said:
        raise Missing("no answer to it")
    mask = said[0].get("mask")
    if mask:
        fits(mask, row)
    return from_text(said[0].get("marks") or "", version.info.classes, masks.decode(mask) if mask else None)


class _Last:
    """What is to be drawn for the run that was asked for last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key = ("", "")
        self._table: Any = None

    def of(self, record: RunRecord) -> Any:
        """The columns `DRAWN` of its predictions."""
        key = record.id, record.version.digest
        with self._lock:
            if self._key == key:
                return self._table
            self._table = None  # before the next one is read
            table = _read(record, DRAWN)
            if table.nbytes <= MOST_BYTES:
                self._key, self._table = key, table
            return table


_drawn = _Last()


@lru_cache(maxsize=4)
def _mistakes(run: str, digest: str) -> Any:
    """The columns `LISTED` of the images that are not answered perfectly, in the order of a list.

    Args:
        run: its id.
        digest: of its model.
    """
    import pyarrow.compute as pc

    from pipeline.registry import runs

    record = runs.read(run)
    if record is None:
        raise UserError(f"Run {run[:8]} has no record.")
    table = _read(record, (*LISTED, *OLD))
    if "actual" not in table.column_names:
        table = _renamed(table, record.data.classes)
    key = ("loss", "descending") if located(record) else ("confidence", "descending")
    return table.filter(pc.less(table.column("quality"), 1)).sort_by([key, ("id", "ascending")])


def _renamed(table: Any, classes: Sequence[str]) -> Any:
    """A table of class ids with their names instead."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def named(column: str) -> Any:
        ids = table.column(column).to_pylist()
        return pa.array([classes[one] if 0 <= one < len(classes) else str(one) for one in ids], pa.string())

    right = pc.equal(table.column("label"), table.column("predicted")).cast(pa.float64())
    more = {"actual": named("label"), "answer": named("predicted"), "quality": right}
    for name, values in more.items():
        table = table.append_column(name, values)
    return table


def _read(record: RunRecord, columns: Sequence[str]) -> Any:
    """Those of `columns` that the predictions of a run have.

    Raises:
        UserError: they are not on this machine.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = outputs.read(record, PREDICTIONS, remote=False)
    try:
        with pq.ParquetFile(io.BytesIO(data)) as file:
            return file.read([name for name in columns if name in file.schema_arrow.names])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"The answers of this run cannot be read: {error}") from error
