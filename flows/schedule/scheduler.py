"""What `convoy worker` does every few seconds: the flow runs that are due are created on Prefect's server.

Each intended time, and each state of a source, has an idempotency key: however many workers there are and whenever one
is killed, the server makes one flow run of it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flows.schedule import news, runs, server, times
from flows.schedule.guard import cooling_down
from flows.schedule.memory import Memory, keep, recall
from flows.schedule.request import Request
from pipeline.errors import UserError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse


@dataclass(frozen=True)
class Served:
    """A deployment and all that it takes to serve it."""

    client: SyncPrefectClient
    project: Path
    deployment: DeploymentResponse
    request: Request

    @property
    def name(self) -> str:
        """Of the deployment."""
        return self.deployment.name


def tick(client: SyncPrefectClient, project: Path, now: datetime) -> list[str]:
    """Create the flow runs that are due at `now`, and the next one of each schedule ahead of its time.

    Relative paths of sources are those of the current folder, which is the project.

    Returns:
        What happened, a line each. One deployment that is wrong does not keep the others.
    """
    lines = []
    for name, deployment in server.ours(client, project).items():
        try:
            lines += _serve(Served(client, project, deployment, _request(deployment)), now)
        except UserError as error:
            lines.append(f"{name}: {error}")
    return lines


def _serve(served: Served, now: datetime) -> list[str]:
    before = recall(served.project, served.name, served.deployment.id, served.request.trigger, now)
    if served.deployment.paused:  # what a pause misses, nobody wants
        lines: list[str] = []
        memory = before.model_copy(update={"handled": max(before.handled, now)})
        _keep_ahead(served, None, before.handled)
    else:
        lines, memory = _follow_times(served, before, now)
        more, memory = _follow_source(served, memory, now)
        lines += more
    keep(served.project, served.name, memory)
    return lines


def _follow_times(served: Served, memory: Memory, now: datetime) -> tuple[list[str], Memory]:
    """Ask for the run whose time has come, one however many were missed, and for the next one ahead."""
    lines = []
    if time := times.due(served.request.trigger, memory.handled, now):
        runs.ask(served.client, served.deployment, time.isoformat(), time)
        lines.append(f"{served.name}: the run of {time:%Y-%m-%d %H:%M %Z} is due.")
        memory = memory.model_copy(update={"handled": time})
        if served.request.trigger.new_data:
            with suppress(UserError):  # a source that cannot be read is for the run to report
                lines_now = sorted(news.source(served.project, served.request).listing())
                news.remember(served.project, served.name, lines_now)
    settled = max(memory.handled, now)
    _keep_ahead(served, next(times.after(served.request.trigger, settled), None), settled)
    return lines, memory


def _keep_ahead(served: Served, following: datetime | None, settled: datetime) -> None:
    """Let just the run of `following` stand on Prefect's page, of all that are later than `settled`."""
    parameters = served.deployment.parameters
    key = runs.key(served.deployment, following.isoformat()) if following else None
    ahead = [run for run in runs.waiting(served.client, served.deployment) if runs.is_timed(run)]
    stays = [run for run in ahead if run.idempotency_key == key and run.parameters == parameters]
    for run in ahead:  # of a deployment that is paused or changed
        if run not in stays and run.expected_start_time and run.expected_start_time > settled:
            served.client.delete_flow_run(run.id)
    if following and not stays:
        runs.ask(served.client, served.deployment, following.isoformat(), following)


def _follow_source(served: Served, memory: Memory, now: datetime) -> tuple[list[str], Memory]:
    """Look at the source if it is time, and ask for a run if enough is new there."""
    pause = timedelta(minutes=served.request.trigger.every_minutes)
    if not served.request.trigger.new_data or (memory.looked and timedelta() <= now - memory.looked < pause):
        return [], memory
    try:
        line, changes = _news(served, memory, now)
    except UserError as error:
        line = "" if str(error) == memory.trouble else f"{served.name}: its source cannot be looked at. {error}"
        changes = {"trouble": str(error)}
    return [line] if line else [], memory.model_copy(update={"looked": now, "trouble": "", **changes})


def _news(served: Served, memory: Memory, now: datetime) -> tuple[str, dict[str, Any]]:
    """A line to say, if any, and what changes in the memory."""
    form = news.source(served.project, served.request)
    seen = news.digest(form.fingerprint())
    if seen == memory.seen:  # a compressed archive is not read again to find as little in it as the last time
        return "", {}
    last = runs.last_start(served.client, served.deployment)
    if cooling_down(served.request, last, now):
        return "", {}
    found = news.look(served.project, served.name, form)
    if found.fresh is None and last:
        news.remember(served.project, served.name, found.lines)
        return f"{served.name}: {len(found.lines):,} samples at its source; new ones count from now.", {"seen": seen}
    count = len(found.lines) if found.fresh is None else found.fresh
    if count < (served.request.trigger.new_data or 0):
        return "", {"seen": seen}
    runs.ask(served.client, served.deployment, f"data {news.digest(found.lines)}")
    news.remember(served.project, served.name, found.lines)
    return f"{served.name}: {count:,} samples are new or changed; a run is due.", {"seen": seen}


def _request(deployment: DeploymentResponse) -> Request:
    try:
        return Request.model_validate(deployment.parameters.get("request", {}))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise UserError(f"its request on the Prefect server is wrong: {place}: {problem['msg']}.") from None
