"""The test images that a run's model answers wrongly, surest first."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from dashboard.access import Viewer
from dashboard.page import missing
from dashboard.views import _run
from dashboard.views._run import run_page
from flows.records import outputs
from pipeline.errors import UserError

PREDICTIONS = "out/evaluation/predictions.parquet"
PAGE = 60
PAIRS = 12

router = APIRouter()


class Mistake(NamedTuple):
    """An image and what was said of it."""

    id: str
    source: str
    label: str
    predicted: str
    confidence: float


class Wanted(NamedTuple):
    """Which of them."""

    address: str
    label: str
    predicted: str

    def query(self, **changes: Any) -> str:
        """The address of the same with something changed."""
        values = {"label": self.label, "predicted": self.predicted} | changes
        kept = {key: value for key, value in values.items() if value}
        return f"{self.address}?{urlencode(kept)}" if kept else self.address


@router.get("/runs/{name}/mistakes")
def overview(
    request: Request,
    person: Viewer,
    name: str,
    label: Annotated[str, Query(max_length=500)] = "",
    predicted: Annotated[str, Query(max_length=500)] = "",
    number: Annotated[int, Query(alias="page", ge=1)] = 1,
) -> Response:
    """Pictures, sixty at a time; by the true class and by the one that was said."""
    run = _run.found(name)
    if run.record is None:
        raise missing("This run has not finished: nothing has been scored yet.")
    problem, everything = "", list[Mistake]()
    try:
        everything = list(mistakes(run.run.id, run.run.digest))
    except UserError as error:
        problem = str(error)
    wanted = Wanted(f"/runs/{run.run.id}/mistakes", label, predicted)
    found = [one for one in everything if label in ("", one.label) and predicted in ("", one.predicted)]
    pages = max(1, -(-len(found) // PAGE))
    number = min(number, pages)
    return run_page(
        request,
        "run_mistakes.html",
        run,
        "mistakes",
        problem=problem,
        shown=found[(number - 1) * PAGE : number * PAGE],
        total=len(found),
        of=len(everything),
        number=number,
        pages=pages,
        wanted=wanted,
        query=wanted.query,
        classes=run.record.data.classes,
        pairs=Counter((one.label, one.predicted) for one in everything).most_common(PAIRS),
    )


@lru_cache(maxsize=8)
def mistakes(run: str, digest: str) -> Sequence[Mistake]:
    """Every wrong answer, the surest first.

    Args:
        run: its id.
        digest: of its model.

    Raises:
        UserError: the answers are not on this machine.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from pipeline.registry import runs

    record, columns = runs.read(run), ["id", "source", "label", "predicted", "confidence"]
    if record is None:
        return ()
    try:
        table = pq.read_table(io.BytesIO(outputs.read(record, PREDICTIONS, remote=False)), columns=columns)
    except (pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"The answers of this run cannot be read: {error}") from error
    wrong = table.filter(pc.not_equal(table["label"], table["predicted"])).sort_by([("confidence", "descending")])
    names = record.data.classes
    return tuple(
        Mistake(
            row["id"], row["source"], _named(names, row["label"]), _named(names, row["predicted"]), row["confidence"]
        )
        for row in wrong.to_pylist()
    )


def _named(classes: Sequence[str], index: int) -> str:
    return classes[index] if 0 <= index < len(classes) else str(index)
