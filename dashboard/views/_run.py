"""What every page about one run shares: which run is meant, its record, its tabs, what can be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request, Response

from dashboard import known
from dashboard.known import Known
from dashboard.page import missing, page
from dashboard.servers import FlowState, Seen
from flows import jobs
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.params import Named
from pipeline.registry import glances
from pipeline.registry.glances import Glance

if TYPE_CHECKING:
    from pipeline.registry.runs import RunRecord


@dataclass(frozen=True)
class Found:
    """A run that a page is about."""

    run: Glance
    record: RunRecord | None
    """Once it has finished."""
    runs: list[Known]
    """All of them."""

    @property
    def wrong(self) -> int | None:
        """Test images that it answers wrongly, by its accuracy."""
        found = self.record.scores.get("accuracy") if self.record else None
        images = self.record.scores.get("images", 0) if self.record else 0
        return round((1 - found["value"]) * images) if isinstance(found, dict) and images else None


def find(name: str) -> Found | None:
    """The run of this id; None if `name` is no whole id."""
    runs = list(known.everything())
    found = next((one.glance for one in runs if one.glance.id == name), None)
    return Found(found, _record(found), runs) if found else None


def found(name: str) -> Found:
    """As `find`.

    Raises:
        HTTPException: there is none; status 404.
    """
    run = find(resolved(name))
    assert run
    return run


def resolved(name: str) -> str:
    """The id of the run that a short name means: the first characters of an id, an experiment, `latest`, a version.

    Raises:
        HTTPException: there is none, or it fits several; status 404.
    """
    try:
        run = glances.resolve(name, [one.glance for one in known.everything()][::-1], lambda: load(Named).name)
    except UserError as problem:
        raise missing(str(problem)) from problem
    if run is None:
        raise missing(f"No run {name[:60]!r} is recorded here. The list of runs shows all there are.")
    return run.id


def run_page(request: Request, template: str, run: Found, tab: str, **values: Any) -> Response:
    """A page about one run, with its head."""
    glance = run.run
    marks = known.makers(run.runs, reigns := known.reigns())
    seen: Seen = request.app.state.servers.look([glance.flow_run])
    champion = reigns[glance.model].digest if glance.model in reigns else ""
    maker = next(
        (other for other, mark in marks.items() if mark == "champion" and _model(run, other) == glance.model), ""
    )
    return page(
        request,
        template,
        run=glance,
        record=run.record,
        wrong=run.wrong,
        tab=tab,
        mark=marks.get(glance.id, ""),
        champion=maker if champion and maker != glance.id else "",
        flow=shown(glance, seen.states.get(glance.flow_run)),
        away=seen.away,
        links=request.app.state.servers.addresses.links(request.url.hostname or "", glance.flow_run, glance.mlflow_run),
        jobs=[job for job in jobs.listed(request.app.state.setup.root) if job.argv[1:] == [glance.id]][:5],
        **values,
    )


def shown(run: Glance, flow: FlowState | None) -> FlowState | None:
    """What Prefect says, where it says more than the record: that a run failed which stopped short does not."""
    known = ("COMPLETED", "RUNNING", *["FAILED"] * (run.state == "stopped"))
    return flow if flow and flow.kind not in known else None


def _record(run: Glance) -> RunRecord | None:
    if run.state != "finished":
        return None
    from pipeline.registry import runs

    return runs.read(run.id)


def _model(run: Found, other: str) -> str:
    return next((one.glance.model for one in run.runs if one.glance.id == other), "")
