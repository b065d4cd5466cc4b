"""The work pool `convoy` on Prefect's server, and the way there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.servers.processes import running

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL = "convoy"
REQUEST_SECONDS = 10.0
"""For the server to answer one request; meanwhile the worker looks after nothing else."""


def address(project: Path) -> str | None:
    """Of the API that the user names, or of the server of `convoy up`; None while there is none."""
    if given := os.environ.get("PREFECT_API_URL"):
        return given.rstrip("/")
    server = running(project).get("prefect")
    return f"{server.url}/api" if server else None


@contextmanager
def connected(api: str) -> Iterator[SyncPrefectClient]:
    """A client that says at once when the server is away; inside, Prefect's settings name that server."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with temporary_settings({PREFECT_API_URL: api, PREFECT_CLIENT_MAX_RETRIES: 0}):
        with get_client(sync_client=True, httpx_settings={"timeout": REQUEST_SECONDS}) as client:
            yield client


def ensure(client: SyncPrefectClient) -> None:
    """Create the pool unless it is there; what somebody has set on it stays.

    It has no limit: each worker runs one at a time, and a run that died with its machine would hold a place for ever.
    """
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    try:
        client.read_work_pool(POOL)
        return
    except ObjectNotFound:
        from prefect.workers.process import ProcessWorker  # a second's import, and needed once
    template = ProcessWorker.get_default_base_job_template()
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
    except ObjectAlreadyExists:  # two at once
        pass
