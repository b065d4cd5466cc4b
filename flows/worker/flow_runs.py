"""What a project knows of the flow runs that its worker has taken, in `.convoy/flow-runs/`.

ID.json    from the moment the worker takes the flow run until its worktree is removed: how often it was taken up again
ID.lock    held by the process of the flow run for as long as it lives, however it dies

Which worker has a flow run stands in Prefect: in the message of its last Pending state, which is set in one step with
the state itself. A worker leaves alone what it finds under another mark.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import ValidationError

from flows.alone import holder
from flows.schedule.server import project_tag
from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.files import STATE, write_json

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import State

HOME = STATE / "flow-runs"
PATIENCE = 40.0
"""Seconds to wait for another process of the same flow run: one whose worker was killed takes 20 s at most to end."""


class Taken(Options):
    """`ID.json`."""

    resumed: int = 0
    """How often the flow run was put back after its process had died."""


@contextmanager
def held(project: Path, flow_run_id: UUID | str, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a flow run, in the process that runs it.

    Args:
        project: the project's root, not that of the flow run's worktree.
        flow_run_id: as Prefect gives it.
        patience: seconds to wait for another holder.

    Raises:
        UserError: another process still runs this flow run.
    """
    path = _lock(project, flow_run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + patience
    with path.open("a") as lock:
        while not _locked(lock.fileno()):
            if time.monotonic() > end:
                raise UserError(f"Another process is still at work on flow run {flow_run_id}; it holds {path}.")
            time.sleep(0.1)
        yield


def lives(project: Path, flow_run_id: UUID | str) -> bool:
    """Whether a process of this machine runs the flow run."""
    return holder(_lock(project, flow_run_id)) is not None


def remember(project: Path, flow_run_id: UUID, taken: Taken) -> None:
    """Write down that this project has the flow run."""
    write_json(_record(project, flow_run_id), taken.model_dump())


def recall(project: Path, flow_run_id: UUID) -> Taken:
    """What is written down of a flow run, or a fresh record."""
    try:
        return Taken.model_validate_json(_record(project, flow_run_id).read_bytes())
    except (OSError, ValidationError):
        return Taken()


def forget(project: Path, flow_run_id: UUID) -> None:
    """Nothing of the flow run is left in this project."""
    _record(project, flow_run_id).unlink(missing_ok=True)
    _lock(project, flow_run_id).unlink(missing_ok=True)


def remembered(project: Path) -> list[UUID]:
    """The flow runs that this project has, oldest first."""
    found = []
    for path in (project / HOME).glob("*.json"):
        with suppress(ValueError, FileNotFoundError):
            found.append((path.stat().st_mtime, UUID(path.stem)))
    return [flow_run_id for _, flow_run_id in sorted(found)]


def claim(client: SyncPrefectClient, project: Path, flow_run_id: UUID, worker: str) -> bool:
    """Take the flow run for the worker of that name; whether it is ours now. Of several that try, one succeeds."""
    from prefect.client.schemas.responses import SetStateStatus
    from prefect.states import Pending

    remember(project, flow_run_id, recall(project, flow_run_id))  # before it is ours: a kill loses no flow run
    pending: State[Any] = Pending(message=f"Taken by worker {worker}, {project_tag(project)}.")
    if client.set_flow_run_state(flow_run_id, pending).status is SetStateStatus.ACCEPT:
        return True
    forget(project, flow_run_id)
    return False


def taken_here(client: SyncPrefectClient, project: Path, flow_run_id: UUID) -> bool:
    """Whether it was a worker of this project that took the flow run last."""
    states = [state for state in client.read_flow_run_states(flow_run_id) if state.is_pending()]
    last = max(states, key=lambda state: state.timestamp, default=None)
    return last is not None and (last.message or "").endswith(f", {project_tag(project)}.")


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _record(project: Path, flow_run_id: UUID | str) -> Path:
    return project / HOME / f"{UUID(str(flow_run_id))}.json"


def _lock(project: Path, flow_run_id: UUID | str) -> Path:
    return project / HOME / f"{UUID(str(flow_run_id))}.lock"
