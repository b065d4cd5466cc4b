"""What `convoy schedule list` shows: prefect.yaml, and what the server knows beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AwareDatetime

from flows.schedule import deployments, runs, server, times
from flows.schedule.deployments import Deployment
from flows.schedule.request import Trigger
from flows.schedule.wording import when
from pipeline.contracts import Options

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse


class Last(Options):
    """The last run of a deployment."""

    id: str
    state: str
    """As Prefect names it: `Completed`, `Superseded`, `Crashed`."""
    at: AwareDatetime | None
    """When it began, or was to begin."""


class Row(Options):
    """One deployment."""

    name: str
    trigger: Trigger
    branch: str
    paused: bool
    next: AwareDatetime | None
    """Intended time; None if it is paused or has no cron."""
    served: bool | None
    """Whether the server has it as prefect.yaml says; None if no server is up."""
    last: Last | None

    @property
    def last_words(self) -> str:
        """For a person."""
        if self.served is None:
            return "no server is up"
        return f"{self.last.state} {when(self.last.at)}" if self.last else "-"


def listed(project: Path) -> list[Row]:
    """Every deployment of prefect.yaml.

    Raises:
        ParamsError: the file is wrong.
    """
    found = deployments.read(project)
    with server.reachable(project) as client:
        there = server.ours(client, project) if client else {}
        return [_row(deployment, client, there.get(deployment.name)) for deployment in found]


def _row(deployment: Deployment, client: SyncPrefectClient | None, there: DeploymentResponse | None) -> Row:
    trigger = deployment.request.trigger
    paused = there.paused if there else deployment.paused
    last = runs.last_result(client, there) if client and there else None
    return Row(
        name=deployment.name,
        trigger=trigger,
        branch=deployment.request.branch,
        paused=paused,
        next=None if paused else next(times.after(trigger, datetime.now(UTC)), None),
        served=None if client is None else there is not None and there.version == server.version(deployment),
        last=Last(id=str(last.id), state=last.state_name or "", at=last.start_time or last.expected_start_time)
        if last
        else None,
    )
