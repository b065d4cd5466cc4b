"""The deployments: what sets each off and when, how its last runs ended, and buttons to run, pause and resume it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from dashboard import deployed, known
from dashboard.access import Approver, Viewer
from dashboard.deployed import Deployed, Run
from dashboard.page import missing, page
from flows import jobs
from flows.jobs import Job
from flows.schedule import deployments, times
from flows.schedule.deployments import Deployment
from flows.schedule.wording import trigger_words
from pipeline.errors import ParamsError, Problem

NEXT = 5

router = APIRouter()


class Time(NamedTuple):
    """An intended time."""

    utc: str
    there: str
    """By the clock of the deployment's zone; empty if that is UTC."""
    iso: str


class Result(NamedTuple):
    """What one flow run came to."""

    run: Run
    recorded: str
    """Id of the run that it left a record of here; empty if it left none."""
    link: str
    """Its page at Prefect's, if a browser can reach that."""


class Row(NamedTuple):
    """One deployment."""

    entry: Deployment
    trigger: str
    """In words."""
    paused: bool
    times: list[Time]
    there: Deployed | None
    """None while the server does not know it."""
    results: list[Result]
    """Of the last runs, newest first."""


class Told(NamedTuple):
    """What a command says that was started here."""

    job: Job
    words: str


@router.get("/schedules")
def overview(request: Request, person: Viewer, job: str = "") -> Response:
    """Every deployment of prefect.yaml, or what is wrong with that file."""
    root: Path = request.app.state.setup.root
    entries: list[Deployment] = []
    problems: Sequence[Problem] = ()
    try:
        entries = deployments.read(root)
    except ParamsError as error:
        problems = error.problems
    server = deployed.look(root, entries)
    here = {one.glance.flow_run: one.glance.id for one in known.everything() if one.glance.flow_run}
    now = datetime.now(UTC)
    links: Callable[..., dict[str, str]] = request.app.state.servers.addresses.links
    rows = []
    for entry in entries:
        there = server.deployed.get(entry.name)
        results = [
            Result(run, here.get(run.id, ""), links(request.url.hostname or "", run.id, "").get("Prefect", ""))
            for run in (there.runs if there else ())
        ]
        rows.append(_row(entry, there, results, now))
    return page(request, "schedules.html", rows=rows, problems=problems, server=server, told=_told(root, job))


@router.get("/schedules/jobs/{job}")
def told(request: Request, person: Viewer, job: str) -> Response:
    """What a command has said by now, asked for again and again while it is at work."""
    found = _told(request.app.state.setup.root, job)
    if found is None:
        raise missing("No such command is remembered.")
    answer = page(request, "schedules_told.html", told=found)
    if found.job.state != "working":
        answer.headers["HX-Trigger"] = "schedules-changed"
    return answer


@router.post("/schedules/{name}/{action}")
def act(request: Request, person: Approver, name: str, action: Literal["run", "pause", "resume"]) -> Response:
    """Ask for a run of a deployment, or let it rest or wake."""
    job = jobs.start(request.app.state.setup.root, ["schedule", action, name], person.name)
    return RedirectResponse(f"/schedules?job={job.id}", 303)


def _told(root: Path, job: str) -> Told | None:
    found = jobs.find(root, job) if job else None
    if found is None or found.argv[:1] != ["schedule"]:
        return None
    return Told(found, jobs.log_tail(root, job, 0)[0].strip())


def _row(entry: Deployment, there: Deployed | None, results: list[Result], now: datetime) -> Row:
    trigger = entry.request.trigger
    zone = ZoneInfo(trigger.zone)
    upcoming = [
        Time(
            utc=f"{time:%a %Y-%m-%d %H:%M}",
            there="" if trigger.zone == "UTC" else f"{time.astimezone(zone):%a %Y-%m-%d %H:%M %Z}",
            iso=time.isoformat(timespec="minutes"),
        )
        for time in times.upcoming(trigger, now, NEXT)
    ]
    paused = there.paused if there else entry.paused
    return Row(entry, trigger_words(trigger), paused, upcoming, there, results)
