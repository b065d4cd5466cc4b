"""Prefect's server in line with `prefect.yaml`: the work pool, the flow, and this project's deployments.

A server may serve several projects: a deployment carries the tag of its project, and nobody touches another's.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.notify.redaction import reason, redacted
from flows.schedule import deployments
from flows.schedule.deployments import ENTRYPOINT, POOL, TAG, Deployment
from flows.schedule.prefect_yaml import FILE
from flows.schedule.request import Request
from flows.schedule.wording import trigger_words
from flows.servers.processes import answers
from flows.worker import pool
from pipeline.errors import UserError
from pipeline.files import STATE

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

FLOW = "retrain"
RETRIES = 4
"""Of one request, after about 2, 4, 8 and 16 seconds."""
PAGE = 200
"""Deployments that the server hands out at once."""


@contextmanager
def reachable(project: Path) -> Iterator[SyncPrefectClient | None]:
    """A client of the project's Prefect server, or None where none answers within 2 seconds.

    Raises:
        UserError: the server goes away meanwhile.
    """
    api = pool.address(project)
    if api is None or not answers(f"{api}/health", timeout=2.0):
        yield None
        return
    import httpx
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    try:
        # A server that has just started writes its events while SQLite lets one write: it answers 503 at times.
        with pool.connected(api) as client, temporary_settings({PREFECT_CLIENT_MAX_RETRIES: RETRIES}):
            yield client
    except httpx.HTTPError as error:
        raise UserError(
            f"The Prefect server at {redacted(api)} does not answer as it should ({reason(error)[:200]}). "
            f"What stands in {FILE} stays; `convoy up` applies it."
        ) from error


def bring_in_line(client: SyncPrefectClient, project: Path) -> list[str]:
    """Make the server hold what prefect.yaml says; a second call changes nothing.

    A deployment that was paused on Prefect's page stays so until its entry in prefect.yaml changes.

    Returns:
        A line for each deployment that was created, updated or deleted.

    Raises:
        UserError: prefect.yaml is wrong, or another project has a deployment of the same name.
    """
    wanted = deployments.read(project)
    pool.ensure(client)
    flow_id = client.create_flow_from_name(FLOW)
    there = {deployment.name: deployment for deployment in _tagged(client, TAG)}
    if foreign := [entry.name for entry in wanted if entry.name in there and _is_foreign(there[entry.name], project)]:
        raise UserError(
            f"Another project has {', '.join(foreign)} on this Prefect server ({there[foreign[0]].path}). "
            f"Give it another name in {FILE}."
        )
    lines = []
    for entry in wanted:
        before = there.get(entry.name)
        fields = _fields(entry, project)
        if before and all(getattr(before, key) == value for key, value in fields.items()):
            continue
        paused = before.paused if before and before.version == fields["version"] else entry.paused
        client.create_deployment(flow_id, entry.name, paused=paused, parameter_openapi_schema=_schema(), **fields)
        lines.append(f"{entry.name}: {'updated' if before else 'created'} on the Prefect server.")
    for name in there.keys() - {entry.name for entry in wanted}:
        if project_tag(project) in there[name].tags:
            client.delete_deployment(there[name].id)
            lines.append(f"{name}: deleted on the Prefect server.")
    return lines


def ours(client: SyncPrefectClient, project: Path) -> dict[str, DeploymentResponse]:
    """The project's deployments on the server, by name."""
    return {deployment.name: deployment for deployment in _tagged(client, TAG, project_tag(project))}


def version(entry: Deployment) -> str:
    """By which the server shows whether it holds an entry as it stands."""
    return hashlib.sha256(entry.model_dump_json().encode()).hexdigest()[:16]


def project_tag(project: Path) -> str:
    """What marks this project's deployments and flow runs; drawn once, and it moves with the folder."""
    path = project / STATE / "schedules" / "project"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".project.{secrets.token_hex(8)}.tmp")
        temporary.write_text(f"project-{secrets.token_hex(4)}")
        try:
            path.hardlink_to(temporary)  # of two at once, one wins and both read the same
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return path.read_text().strip()


def _fields(entry: Deployment, project: Path) -> dict[str, Any]:
    """What the server is to hold of a deployment, beside whether it is paused."""
    return {
        "version": version(entry),
        "description": _description(entry),
        "tags": sorted({*entry.tags, project_tag(project)}),
        "parameters": {"request": entry.request.model_dump(mode="json")},
        "work_pool_name": POOL,
        "path": str(project.resolve()),
        "entrypoint": ENTRYPOINT,
        "enforce_parameter_schema": True,
    }


def _description(entry: Deployment) -> str:
    """With the trigger in words: Prefect's page shows none of its own, for the times are ours."""
    return f"{entry.description or ''}\n\nSet off: {trigger_words(entry.request.trigger)}.".strip()


def _schema() -> dict[str, Any]:
    """Of the flow's parameters, for the form on Prefect's page; the flow itself takes seconds to import."""
    from prefect.utilities.callables import parameter_schema

    return parameter_schema(_signature).model_dump_for_openapi()


def _signature(request: Request) -> None:
    """The parameters of the flow `retrain`.

    Args:
        request: what this run is asked to do.
    """


def _is_foreign(deployment: DeploymentResponse, project: Path) -> bool:
    projects = [tag for tag in deployment.tags if tag.startswith("project-")]
    return bool(projects) and project_tag(project) not in projects


def _tagged(client: SyncPrefectClient, *tags: str) -> list[DeploymentResponse]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags, FlowFilter, FlowFilterName

    wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=list(tags)))
    flow = FlowFilter(name=FlowFilterName(any_=[FLOW]))
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(deployment_filter=wanted, flow_filter=flow, limit=PAGE, offset=len(found)):
        found += page
    return found
