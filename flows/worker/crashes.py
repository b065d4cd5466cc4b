"""What happens to the flow runs of a worker that died, or whose process did: they go on, or are buried with words.

A flow run is judged only while no process of this machine runs it, and only if a worker of this project took it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled, Crashed

from flows import announce, worktrees
from flows.worker import untold
from flows.worker.flow_runs import forget, lives, recall, remember, remembered, taken_here

LIMIT = 3
"""How often a flow run is taken up again after a crash: one that always dies must not keep a machine for ever."""

Close = Callable[[str], None]


def sweep(client: SyncPrefectClient, project: Path, at_work: UUID | None, close: Close) -> list[str]:
    """Look at every flow run that this project has: put the dead back, remove what the ended have left.

    Args:
        client: of Prefect's server.
        project: the project's root.
        at_work: the flow run that the worker watches itself.
        close: removes the worktree of that name.

    Returns:
        A line for each flow run that was dead.
    """
    told = untold.tell(client)
    left = [one for one in remembered(project) if one != at_work and not lives(project, one)]
    return told + [line for flow_run_id in left if (line := _judge(client, project, flow_run_id, close))]


def put_back(client: SyncPrefectClient, flow_run: FlowRun, message: str) -> None:
    """Let the flow run be taken again at once, by this worker or the next, ahead of what was due later."""
    state: State[Any] = AwaitingRetry(scheduled_time=flow_run.expected_start_time, message=message)
    client.set_flow_run_state(flow_run.id, state, force=True)


def _judge(client: SyncPrefectClient, project: Path, flow_run_id: UUID, close: Close) -> str | None:
    flow_run, line = None, None
    try:
        flow_run = client.read_flow_run(flow_run_id)
    except ObjectNotFound:  # deleted on the page
        pass
    state = flow_run.state if flow_run else None
    if state and (state.is_scheduled() or (state.is_paused() and not untold.finished(flow_run_id))):
        return None
    if flow_run and state and _has_died(state) and taken_here(client, project, flow_run_id):
        if done := untold.finished(flow_run_id):  # it died, or the server was away, after everything was done
            untold.set_end(client, flow_run_id, done)
            line = f"Flow run {flow_run_id} had finished; Prefect knows it now."
        elif state.is_cancelling():
            client.set_flow_run_state(flow_run_id, Cancelled(message="Its process has ended."), force=True)
        elif (taken := recall(project, flow_run_id)).resumed < LIMIT:
            count = taken.resumed + 1
            remember(project, flow_run_id, taken.model_copy(update={"resumed": count}))
            put_back(client, flow_run, f"Its process died; it goes on where it was (time {count} of {LIMIT}).")
            return f"Flow run {flow_run_id} was dead; it goes on where it was (time {count} of {LIMIT})."
        else:
            words = (
                f"{state.message or 'Its process died.'} That was time {LIMIT + 1}: it is not started again by itself. "
                "Retry on this page starts it once you have found the reason."
            )
            client.set_flow_run_state(flow_run_id, Crashed(message=words), force=True)
            announce.failed_early(worktrees.root_of(project, str(flow_run_id)), flow_run.name, words)
            line = f"Flow run {flow_run_id} died {LIMIT + 1} times; it stays crashed."
    close(str(flow_run_id))
    forget(project, flow_run_id)
    return line


def _has_died(state: State[Any]) -> bool:
    """One that waits for a decision has done all that it does."""
    return state.is_crashed() or not (state.is_final() or state.is_paused())
