"""Which of the test images a run's model does not answer perfectly: from its predictions.

Columns that every task has are enough for a list. Where answers are classes, right or wrong, they can be asked for by
class; where they are more than one word, truth and answer are shown beside each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from dashboard.answered import located, read
from dashboard.told import Told, told
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.registry.runs import RunRecord

LISTED = ("id", "source", "actual", "answer", "quality", "confidence", "loss")
OLD = ("label", "predicted")
"""Class ids, of runs before there were tasks with other answers."""
MARKS = "marks"
"""Column of what is to be shown beside a picture; what lies in it is drawn from there one by one."""


class Mistake(NamedTuple):
    """An image that is not answered perfectly, and what was said of it."""

    id: str
    source: str
    actual: str
    answer: str
    quality: float
    confidence: float
    told: Told
    """The answer as it is shown."""


class Found(NamedTuple):
    """A page of them."""

    rows: Sequence[Mistake]
    total: int
    of: int
    """Without a filter."""
    page: int
    pages: int


class _Every(NamedTuple):
    """The answers of a run that are not perfect, in the order of a list."""

    table: Any
    ids: Any
    """Of all images that were asked, in the order of the predictions."""
    beside: bool
    sure: bool


def beside(record: RunRecord) -> bool:
    """Whether truth and answer are shown beside each other; else answers are classes, right or wrong.

    Raises:
        UserError: the answers are not on this machine.
    """
    return _mistakes(record.id, record.version.digest).beside


def sure(record: RunRecord) -> bool:
    """Whether the answers say how sure they are.

    Raises:
        UserError: the answers are not on this machine.
    """
    return _mistakes(record.id, record.version.digest).sure


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
    table = every.table
    for column, value in (("actual", actual), ("answer", answer)):
        if value:
            table = table.filter(pc.equal(table.column(column), value))
    pages = max(1, -(-table.num_rows // size))
    page = min(page, pages)
    drawn = located(record)

    def other(place: int) -> str:
        known = 0 <= place < len(every.ids)
        return f"/pictures/{record.data.digest}/{every.ids[place].as_py()}" if known else ""

    def one(row: dict[str, Any]) -> Mistake:
        text, _ = row.pop(MARKS, ""), row.pop("loss")
        if drawn:
            return Mistake(**row, told=Told(row["answer"], f"/runs/{record.id}/answers/{row['id']}"))
        return Mistake(**row, told=told(row["answer"], row["actual"], text, other))

    names = [name for name in (*LISTED, MARKS) if name in table.column_names]
    rows = table.slice((page - 1) * size, size).select(names).to_pylist()
    return Found(list(map(one, rows)), table.num_rows, every.table.num_rows, page, pages)


def pairs(record: RunRecord, most: int) -> list[tuple[str, str, int]]:
    """What is taken for what most often, and how many images.

    Raises:
        UserError: the answers are not on this machine.
    """
    table = _mistakes(record.id, record.version.digest).table
    counted = table.group_by(["actual", "answer"], use_threads=False).aggregate([("id", "count")])
    order = [("id_count", "descending"), ("actual", "ascending"), ("answer", "ascending")]
    rows = counted.sort_by(order).slice(0, most).to_pylist()
    return [(row["actual"], row["answer"], row["id_count"]) for row in rows]


@lru_cache(maxsize=4)
def _mistakes(run: str, digest: str) -> _Every:
    """The columns `LISTED` of the images that are not answered perfectly.

    Args:
        run: its id.
        digest: of its model.
    """
    import pyarrow.compute as pc

    from pipeline.registry import runs

    record = runs.read(run)
    if record is None:
        raise UserError(f"Run {run[:8]} has no record.")
    drawn = located(record)
    table = read(record, (*LISTED, *OLD) if drawn else (*LISTED, *OLD, MARKS))
    if "actual" not in table.column_names:
        table = _renamed(table, record.data.classes)
    quality = table.column("quality")
    graded = pc.any(pc.and_(pc.greater(quality, 0), pc.less(quality, 1))).as_py()
    marked = MARKS in table.column_names and pc.any(pc.not_equal(table.column(MARKS), "")).as_py()
    shown_beside = bool(drawn or graded or marked)
    key = ("loss", "descending") if shown_beside else ("confidence", "descending")
    wrong = table.filter(pc.less(quality, 1)).sort_by([key, ("id", "ascending")])
    sure = pc.any(pc.less(table.column("confidence"), 1)).as_py()
    return _Every(wrong, table.column("id"), shown_beside, bool(sure))


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
