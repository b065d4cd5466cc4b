"""Two runs side by side: what they differ in, and whether one is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from dashboard import comparisons, known
from dashboard.access import Viewer
from dashboard.page import missing, page
from dashboard.views import _run
from dashboard.views.run import scores
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.registry.runs import RunRecord

router = APIRouter()
Name = Annotated[str, Query(max_length=200)]


@router.get("/compare")
def look(
    request: Request,
    person: Viewer,
    before: Name = "",
    after: Name = "",
    run: Annotated[list[str] | None, Query()] = None,
) -> Response:
    """What the records say, at once; what takes longer is asked for by the page itself."""
    if run:
        return _sorted(run)
    if not (before and after):
        return page(request, "compare_none.html", chosen=len([one for one in (before, after) if one]))
    pair = [_run.resolved(name) for name in (before, after)]
    if pair != [before, after]:
        return RedirectResponse(_address(*pair), 303)
    first, second = _record(before), _record(after)
    from pipeline.registry import difference, proof

    return page(
        request,
        "compare.html",
        first=first,
        second=second,
        swapped=_address(after, before),
        more=f"/compare/pictures?{urlencode({'before': before, 'after': after})}",
        scores=_scores(first, second),
        params=difference.params(first, second),
        data=difference.data(first, second),
        environment=proof.compare_environments(first.environment, second.environment),
        marks=known.makers(known.everything(), known.reigns()),
    )


@router.get("/compare/pictures")
def pictures(request: Request, person: Viewer, before: Name, after: Name) -> Response:
    """What takes a look at every picture and at the code."""
    first, second = _record(before), _record(after)
    try:
        found, problem = comparisons.compared(first.id, second.id), ""
    except UserError as error:
        found, problem = None, str(error)
    return page(request, "compare_pictures.html", found=found, problem=problem, first=first, second=second)


def _sorted(names: list[str]) -> Response:
    """Two runs that were ticked in the list, the older one first."""
    if len(names) != 2:
        raise missing(f"Two runs can be compared; {len(names)} were chosen. Tick two in the list of runs.")
    began = {one.glance.id: one.glance.started for one in known.everything()}
    return RedirectResponse(_address(*sorted(map(_run.resolved, names), key=lambda run: began[run])), 303)


def _address(before: str, after: str) -> str:
    return f"/compare?{urlencode({'before': before, 'after': after})}"


def _record(name: str) -> RunRecord:
    found = _run.found(name)
    if found.record is None:
        raise missing(f"Run {found.run.id[:8]} has not finished, so there is nothing to compare yet.")
    return found.record


def _scores(first: RunRecord, second: RunRecord) -> list[tuple[str, bool, list[object]]]:
    """Title, whether higher is better, and both rows, on one scale."""
    sides = [{row.title: row for row in scores(record)} for record in (first, second)]
    titles = list(dict.fromkeys([*sides[1], *sides[0]]))
    found = []
    for title in titles:
        rows = [side.get(title) for side in sides]
        known_rows = [row for row in rows if row]
        scale = min(row.scale[0] for row in known_rows), max(row.scale[1] for row in known_rows)
        both: list[object] = [row._replace(scale=scale) if row else None for row in rows]
        found.append((title, known_rows[0].higher, both))
    return found
