"""The test images that a run's model does not answer perfectly."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from dashboard import answered, mistaken, pictures
from dashboard.access import Viewer
from dashboard.mistaken import Found
from dashboard.page import missing
from dashboard.views import _run
from dashboard.views._run import run_page
from dashboard.views.pictures import sent
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.registry.runs import RunRecord

PAGE = 60
PAIRS = 12
NOTHING = Found([], 0, 0, 1, 1)

router = APIRouter()


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
    """Pictures, sixty at a time: by the true class and by the one that was said, or truth beside answer."""
    run = _run.found(name)
    record = _record(run.record)
    problem, some, confused, located = "", NOTHING, list[tuple[str, str, int]](), answered.located(record)
    beside = sure = located
    try:
        beside, sure = mistaken.beside(record), mistaken.sure(record)
        some = mistaken.found(record, label, predicted, number, PAGE // 2 if beside else PAGE)
        confused = [] if beside else mistaken.pairs(record, PAIRS)
    except UserError as error:
        problem = str(error)
    wanted = Wanted(f"/runs/{run.run.id}/mistakes", label, predicted)
    return run_page(
        request,
        "run_mistakes.html",
        run,
        "mistakes",
        problem=problem,
        some=some,
        located=located,
        beside=beside,
        sure=sure,
        legend=pictures.legend(record.data.classes) if located else [],
        wanted=wanted,
        query=wanted.query,
        classes=record.data.classes,
        pairs=confused,
    )


@router.get("/runs/{name}/answers/{image}")
def answer(request: Request, person: Viewer, name: str, image: str) -> Response:
    """A test image with what the model of a run says of it drawn on; a drawing with status 404 where it is missing."""
    run = _run.find(name)
    if run is None:
        raise missing("No run of this id is recorded here.")
    record, about = _record(run.record), f"answer-{run.run.id}"
    said = partial(answered.marks, record)
    return sent(request, image, about, lambda: pictures.answered(record.data.digest, image, about, said))


def _record(record: RunRecord | None) -> RunRecord:
    if record is None:
        raise missing("This run has not finished: nothing has been scored yet.")
    return record
