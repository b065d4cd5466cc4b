"""Which of the flow runs that are due a worker starts, and which are called off before they begin."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from pydantic import ValidationError

from flows.schedule import guard, runs, server
from flows.schedule.guard import Skip, Waiting
from flows.schedule.request import Request
from pipeline.errors import UserError


def belongs_here(project: Path, flow_run: FlowRun) -> bool:
    """Whether no other project that shares the server has asked for the flow run."""
    projects = [tag for tag in flow_run.tags if tag.startswith("project-")]
    return not projects or server.project_tag(project) in projects


def request_of(flow_run: FlowRun) -> Request:
    """What the flow run is asked to do.

    Raises:
        UserError: its parameters say what no request says.
    """
    try:
        return Request.model_validate(flow_run.parameters.get("request") or {})
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise UserError(f"The parameter `request` of this run is wrong. {problems}") from None


def ref_of(request: Request) -> str:
    """What git is asked for: a branch by its whole name, for a tag that is called like it would go before it."""
    return f"refs/heads/{request.branch}" if request.branch else "HEAD"


def called_off(client: SyncPrefectClient, flow_run: FlowRun, request: Request, now: datetime) -> Skip | None:
    """Why the flow run need not begin, if so; one that has begun and was interrupted always goes on."""
    if flow_run.run_count or flow_run.deployment_id is None:
        return None
    deployment = client.read_deployment(flow_run.deployment_id)
    others = _understood(other for other in runs.waiting(client, deployment) if not other.run_count)
    return guard.decide(_waiting(flow_run, request), others, runs.last_start(client, deployment), now)


def _understood(flow_runs: Iterable[FlowRun]) -> list[Waiting]:
    found = []
    for flow_run in flow_runs:
        try:
            found.append(_waiting(flow_run, request_of(flow_run)))
        except UserError:  # it fails with these words when its turn comes
            continue
    return found


def _waiting(flow_run: FlowRun, request: Request) -> Waiting:
    return Waiting(str(flow_run.id), flow_run.expected_start_time or datetime.now(UTC), request)
