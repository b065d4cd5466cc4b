"""What a run's model said of the test images, from its predictions; what is to be drawn is kept of the last run."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dashboard.opened import Opened, task_named
from dashboard.pictures import Missing, fits
from flows.records import outputs
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.answering import Marks
    from pipeline.registry.runs import RunRecord

PREDICTIONS = "out/evaluation/predictions.parquet"
DRAWN = ("id", "marks", "mask")
MOST_BYTES = 64_000_000
"""Of what is to be drawn for one run: more is read anew for each picture."""


def located(record: RunRecord) -> bool:
    """Whether what the model of a run says lies somewhere in a picture, and is to be drawn on it."""
    task = task_named(str(record.params.get("task", {}).get("name", "")))
    return task is not None and task.learns.located


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

    try:
        table = _drawn.of(record)
    except UserError:
        raise Missing("not on this machine") from None
    said = table.filter(pc.equal(table.column("id"), row["id"])).to_pylist()
    if not said:
        raise Missing("no answer to it")
    return drawable(said[0].get("marks"), said[0].get("mask"), version, row)


def drawable(text: str | None, mask: bytes | None, version: Opened, row: Mapping[str, Any]) -> Marks:
    """Marks from the columns that keep them.

    Args:
        text: of `marking.as_text`.
        mask: of `masks.encode`.
        version: of the data.
        row: of the image, of `samples.parquet`.

    Raises:
        Missing: the mask is that of another picture.
        ValueError: one of them is damaged.
    """
    from pipeline import masks
    from pipeline.marking import from_text

    if mask:
        fits(mask, row)
    return from_text(text or "", version.info.classes, masks.decode(mask) if mask else None)


def read(record: RunRecord, columns: Sequence[str]) -> Any:
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
            table = read(record, DRAWN)
            if table.nbytes <= MOST_BYTES:
                self._key, self._table = key, table
            return table


_drawn = _Last()
