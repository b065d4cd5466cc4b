"""The flow runs of a deployment on Prefect's server: asked for, once each, and looked up."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from flows.schedule.deployments import POOL

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilterDeploymentId
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

TIMED = "scheduled"
"""Tag of the flow runs that stand for an intended time."""
PAGE = 200
"""Flow runs that the server hands out at once."""


def key(deployment: DeploymentResponse, what: str) -> str:
    """By which the server knows that a flow run was asked for already."""
    return f"{deployment.id} {what}"


def ask(
    client: SyncPrefectClient, deployment: DeploymentResponse, what: str | None = None, when: datetime | None = None
) -> FlowRun:
    """Have a flow run of the deployment, or get the one that there is.

    Args:
        client: of the server.
        deployment: of the project.
        what: the intended time or the state of the source that it stands for, of which there is one run ever; None
            for a run that a person asks for.
        when: it may begin; by default at once.
    """
    from prefect.states import Scheduled

    return client.create_flow_run_from_deployment(
        deployment.id,
        state=Scheduled(scheduled_time=when),
        idempotency_key=key(deployment, what) if what else None,
        tags=[TIMED] if when else [],
    )


def is_timed(run: FlowRun) -> bool:
    """Whether a flow run stands for an intended time."""
    return TIMED in run.tags


def waiting(client: SyncPrefectClient, deployment: DeploymentResponse) -> list[FlowRun]:
    """The flow runs of the deployment that are scheduled, for now or later."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    scheduled = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    wanted = FlowRunFilter(deployment_id=_of(deployment), state=scheduled)
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=wanted, limit=PAGE, offset=len(found)):
        found += page
    return found


def last_start(client: SyncPrefectClient, deployment: DeploymentResponse) -> datetime | None:
    """When the newest run of the deployment began that did begin."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStartTime
    from prefect.client.schemas.sorting import FlowRunSort

    began = FlowRunFilter(deployment_id=_of(deployment), start_time=FlowRunFilterStartTime(is_null_=False))
    runs = client.read_flow_runs(flow_run_filter=began, sort=FlowRunSort.START_TIME_DESC, limit=1)
    return runs[0].start_time if runs else None


def last_result(client: SyncPrefectClient, deployment: DeploymentResponse) -> FlowRun | None:
    """The newest flow run of the deployment that is not waiting."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    not_waiting = FlowRunFilterState(type=FlowRunFilterStateType(not_any_=[StateType.SCHEDULED]))
    wanted = FlowRunFilter(deployment_id=_of(deployment), state=not_waiting)
    runs = client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
    return runs[0] if runs else None


def has_worker(client: SyncPrefectClient) -> bool:
    """Whether a worker serves the pool."""
    return any(worker.status == "ONLINE" for worker in client.read_workers_for_work_pool(POOL))


def _of(deployment: DeploymentResponse) -> FlowRunFilterDeploymentId:
    from prefect.client.schemas.filters import FlowRunFilterDeploymentId

    return FlowRunFilterDeploymentId(any_=[deployment.id])
