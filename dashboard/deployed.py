"""What Prefect's server knows of the project's deployments, asked over REST: their last runs, and who serves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from flows.schedule import server
from flows.schedule.deployments import POOL, TAG, Deployment
from flows.servers.prefect_rest import AWAY, Wire, wired
from flows.servers.processes import answers
from flows.worker import pool

PATIENCE = 1.0
"""Seconds for the server to say that it is well; a page waits no longer for one that hangs."""
LAST = 5
"""Runs of each deployment."""
MOST = 200
"""Deployments in one answer: Prefect's own limit."""


class Run(NamedTuple):
    """A flow run of a deployment."""

    id: str
    state: str
    """As Prefect names it: `Completed`, `Superseded`, `Crashed`."""
    at: str
    """When it began, or was to begin; ISO, or empty."""
    seconds: float
    said: str
    """What its state adds in words."""


class Deployed(NamedTuple):
    """A deployment as the server has it."""

    paused: bool
    current: bool
    """Whether it is as prefect.yaml says."""
    runs: Sequence[Run]
    """Newest first; of those that wait, the ones that could begin now."""


class Server(NamedTuple):
    """What was learnt from it."""

    up: bool
    worker: bool
    """Whether one serves the work pool."""
    deployed: Mapping[str, Deployed]


NOTHING = Server(up=False, worker=False, deployed={})


def look(root: Path, entries: Sequence[Deployment]) -> Server:
    """What the project's Prefect server says of these deployments; `NOTHING`, if none answers as it should."""
    api = pool.address(root)
    if api is None or not answers(f"{api}/health", PATIENCE):
        return NOTHING
    try:
        with wired(root, api) as wire:
            return _asked(wire, root, entries) if wire else NOTHING
    except (*AWAY, LookupError, TypeError):  # the last two from a server of another kind
        return NOTHING


def _asked(wire: Wire, root: Path, entries: Sequence[Deployment]) -> Server:
    tags = {"tags": {"all_": [TAG, server.project_tag(root)]}}
    found = wire.post("/deployments/filter", {"deployments": tags, "limit": MOST})
    there = {str(one["name"]): one for one in found}
    deployed = {
        entry.name: Deployed(
            paused=bool(one["paused"]),
            current=one["version"] == server.version(entry),
            runs=[_run(run) for run in _last_runs(wire, str(one["id"]))],
        )
        for entry in entries
        if (one := there.get(entry.name))
    }
    return Server(up=True, worker=_has_worker(wire), deployed=deployed)


def _last_runs(wire: Wire, deployment: str) -> list[dict[str, Any]]:
    wanted = {
        "deployment_id": {"any_": [deployment]},
        "expected_start_time": {"before_": datetime.now(UTC).isoformat()},
    }
    body = {"flow_runs": wanted, "sort": "EXPECTED_START_TIME_DESC", "limit": LAST}
    found: list[dict[str, Any]] = wire.post("/flow_runs/filter", body)
    return found


def _run(run: dict[str, Any]) -> Run:
    state = run.get("state") or {}
    return Run(
        id=str(run["id"]),
        state=str(run["state_name"] or ""),
        at=str(run.get("start_time") or run.get("expected_start_time") or ""),
        seconds=float(run.get("total_run_time") or 0),
        said=str(state.get("message") or "").strip()[:300],
    )


def _has_worker(wire: Wire) -> bool:
    try:
        workers = wire.post(f"/work_pools/{POOL}/workers/filter", {})
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:  # no worker was ever up, so there is no pool
            return False
        raise
    return any(worker["status"] == "ONLINE" for worker in workers)
