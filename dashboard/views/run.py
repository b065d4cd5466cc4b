"""One run: what it was made of and came to, its curves and scores, live while it works."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from dashboard import diverged, judged
from dashboard.access import Approver, Viewer
from dashboard.curves import drawn, went_back_said
from dashboard.page import missing
from dashboard.views import _run
from dashboard.views._jobs import begin
from dashboard.views._live import STAGES, live_of
from dashboard.views._run import Found, run_page
from flows import live
from flows.records import outputs
from pipeline import plugin
from pipeline.registry import attempts
from pipeline.registry.endings import next_said, reason_said
from pipeline.registry.glances import Glance
from pipeline.registry.ledger import MOVES, Entry
from pipeline.registry.runs import RunRecord
from pipeline.wording import spread_said

REPORT = "out/evaluation/report.html"
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""The report comes from the run: nothing in it is run, and it is nobody's page."""

router = APIRouter()


class Score(NamedTuple):
    """A row of the table of scores."""

    title: str
    value: float
    low: float | None
    high: float | None
    scale: tuple[float, float]
    higher: bool
    main: bool
    measured: bool
    """Whether it is an amount, and no share."""


@router.get("/runs/{name}")
def overview(request: Request, person: Viewer, name: str) -> Response:
    """All about a run at a glance."""
    run = _run.find(name)
    if run is None:
        return RedirectResponse(f"/runs/{_run.resolved(name)}", 303)
    record = run.record
    scored = scores(record) if record else []
    return run_page(
        request,
        "run.html",
        run,
        "overview",
        curves=drawn(live.curves(run.run.id)),
        one=live_of(run.run) if record is None else None,
        ending=_ending(run.run) if run.run.state == "stopped" else None,
        diverged=diverged.of_run(run.run.id) if run.run.state == "stopped" else None,
        scores=scored,
        bars=bars_said(scored),
        went_back=went_back_said(record) if record else "",
        spread=spread_of(record, scored) if record else "",
        case=judged.of_run(run.run.id),
        moves=moves(record) if record else [],
        stages=STAGES,
        missed=sum(not row.held for row in record.verdict.slices) if record else 0,
    )


@router.get("/runs/{name}/live")
def at_work(request: Request, person: Viewer, name: str) -> Response:
    """Progress and curves of a run at work, asked for again and again; once it has ended, the whole page is."""
    run = _run.found(name)
    answer = run_page(
        request,
        "run_live.html",
        run,
        "overview",
        one=live_of(run.run),
        curves=drawn(live.curves(run.run.id)),
    )
    if run.run.state != "working":
        answer.headers["HX-Refresh"] = "true"
    return answer


@router.get("/runs/{name}/params")
def params(request: Request, person: Viewer, name: str) -> Response:
    """Every param, the patch of the code, the packages."""
    return run_page(request, "run_params.html", _run.found(name), "params")


@router.get("/runs/{name}/log")
def log(request: Request, person: Viewer, name: str) -> Response:
    """What the run says."""
    run = _run.found(name)
    text, offset = live.log_tail(run.run.id, 0)
    return run_page(request, "run_log.html", run, "log", text=text, **_more(run, offset))


@router.get("/runs/{name}/log/more")
def more(request: Request, person: Viewer, name: str, offset: int = Query(0, ge=0)) -> Response:
    """What it has said since."""
    run = _run.found(name)
    text, offset = live.log_tail(run.run.id, offset)
    return run_page(request, "log_more.html", run, "log", text=text, **_more(run, offset))


@router.get("/runs/{name}/report")
def report(request: Request, person: Viewer, name: str) -> Response:
    """The report on the model, a document of its own."""
    record = _run.found(name).record
    if record is None:
        raise missing("This run has no report: it has not finished.")
    page = outputs.read(record, REPORT, remote=False)
    return Response(page, headers={"Content-Security-Policy": SANDBOX}, media_type="text/html; charset=utf-8")


@router.post("/runs/{name}/verify")
def verify(request: Request, person: Approver, name: str) -> Response:
    """Make the run again and compare, as a job."""
    return begin(request, person, ["verify", _run.found(name).run.id])


@router.post("/runs/{name}/rerun")
def rerun(request: Request, person: Approver, name: str) -> Response:
    """Run again with the same params, as a job."""
    return begin(request, person, ["rerun", _run.found(name).run.id])


def scores(record: RunRecord) -> list[Score]:
    """Every score of the test split, the one that decides first; those of one direction share a scale."""
    main = record.params["task"]["score"]
    known: Mapping[str, Any] = {name: found for name, found in record.scores.items() if isinstance(found, dict)}
    rows = []
    for name in sorted(known, key=lambda name: (name != main, name)):
        metric = plugin.metric_named(name) if name in plugin.names("metrics") else None
        higher = metric.higher_is_better if metric else True
        title, found, measured = metric.title if metric else name, known[name], bool(metric and metric.measured)
        interval = found["value"], found["low"], found["high"]
        rows.append(Score(title, *interval, (0, 1), higher, name == main, measured))
    alike = {row: [one for one in rows if (one.higher, one.measured) == (row.higher, row.measured)] for row in rows}
    return [row._replace(scale=_scale(alike[row])) for row in rows]


def spread_of(record: RunRecord, rows: Sequence[Score]) -> str:
    """How sure the score that decides is; nothing where it is undefined on the test images."""
    return spread_said(record.scores, record.params["task"]["score"]) if rows and rows[0].main else ""


def bars_said(rows: Sequence[Score]) -> str:
    """What the bars of the scores reach from and to."""
    scales = {(row.higher, row.measured): row.scale for row in rows}
    said = []
    for (higher, measured), (low, high) in scales.items():
        where = " where lower is better" * (not higher) + " in the unit of what is measured" * measured
        said.append(f"from {low:.6g} to {high:.6g}{where}")
    return f"Bars reach {'; '.join(said)}." if said else ""


def moves(record: RunRecord) -> list[Entry]:
    """The entries of the ledger that put this version in place or took it away, oldest first."""
    mine = record.version.version
    return [
        entry
        for entry in judged.entries()
        if entry.action in MOVES and entry.model == record.model and mine in (entry.to_version, entry.from_version)
    ]


def _ending(run: Glance) -> dict[str, str]:
    """Why it stopped short, and what to do about it."""
    attempt = attempts.read(run.id)
    return {"reason": reason_said(run.reason), "next": next_said(attempt) if attempt else ""}


def _more(run: Found, offset: int) -> dict[str, Any]:
    address = f"/runs/{run.run.id}/log/more?offset={offset}"
    return {"more": address if run.run.state == "working" else ""}


def _scale(rows: list[Score]) -> tuple[float, float]:
    low = min(row.value if row.low is None else row.low for row in rows)
    high = max(row.value if row.high is None else row.high for row in rows)
    if rows[0].higher:
        return min(0.9, math.floor(low * 10) / 10), max(1.0, high)
    return min(0.0, low), max(0.1, math.ceil(high * 10) / 10)
