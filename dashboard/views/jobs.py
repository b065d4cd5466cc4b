"""Jobs: commands that the page has started, and what they say."""

from __future__ import annotations

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from dashboard.access import Approver, Viewer
from dashboard.page import missing, page
from flows import jobs
from flows.jobs import Job

router = APIRouter()


@router.get("/jobs")
def overview(request: Request, person: Viewer) -> Response:
    """Every job that is remembered."""
    return page(request, "jobs.html", jobs=jobs.listed(request.app.state.setup.root))


@router.get("/jobs/{name}")
def look(request: Request, person: Viewer, name: str) -> Response:
    """One job, live."""
    job = _found(request, name)
    text, offset = jobs.log_tail(request.app.state.setup.root, name, 0)
    return page(request, "job.html", job=job, text=text, more=_more(job, offset))


@router.get("/jobs/{name}/log/more")
def more(request: Request, person: Viewer, name: str, offset: int = Query(0, ge=0)) -> Response:
    """What it has said since; once it has ended, the whole page is asked for."""
    job = _found(request, name)
    text, offset = jobs.log_tail(request.app.state.setup.root, name, offset)
    answer = page(request, "log_more.html", text=text, more=_more(job, offset))
    if job.state != "working":
        answer.headers["HX-Refresh"] = "true"
    return answer


@router.post("/jobs/{name}/stop")
def stop(request: Request, person: Approver, name: str) -> Response:
    """Ask it to stop, as Ctrl-C would."""
    jobs.stop(request.app.state.setup.root, name)
    return RedirectResponse(f"/jobs/{name}", 303)


def _found(request: Request, name: str) -> Job:
    job = jobs.find(request.app.state.setup.root, name)
    if job is None:
        raise missing(f"No job {name[:60]!r} is remembered; old ones are forgotten.")
    return job


def _more(job: Job, offset: int) -> str:
    return f"/jobs/{job.id}/log/more?offset={offset}" if job.state == "working" else ""
