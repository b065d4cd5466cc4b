"""One flow run at work: the process that its worker has started and watches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed

from flows.worker import untold

GRACE = 30.0
"""Seconds that a process gets to keep its checkpoint; then it is ended by force."""


class Job:
    """The process of a flow run: the worker's own child, in a session that Ctrl-C in the terminal does not reach."""

    def __init__(self, flow_run_id: UUID, command: Sequence[str], root: Path, api: str) -> None:
        self.flow_run_id = flow_run_id
        self.cancelled = False
        """Whether somebody has asked for that on Prefect's page."""
        self._asked: float | None = None
        self._process = subprocess.Popen(
            [sys.executable, *command, str(flow_run_id)],
            stdin=subprocess.DEVNULL,
            cwd=root,
            env={**os.environ, "PREFECT_API_URL": api},
            start_new_session=True,
        )

    def status(self) -> int | None:
        """The exit status, or None while it runs; ends by force what was asked to stop and did not."""
        if self._asked and time.monotonic() > self._asked + GRACE:
            self.kill()
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Once: a process that is told twice stops on the spot, without a checkpoint."""
        if self._asked is None:
            self._asked = time.monotonic()
            self._process.terminate()

    def kill(self) -> None:
        """End it and its stages on the spot."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def unwanted(client: SyncPrefectClient, flow_run_id: UUID) -> bool:
    """Whether somebody has cancelled the flow run on Prefect's page, or deleted it."""
    try:
        state = client.read_flow_run(flow_run_id).state
    except ObjectNotFound:
        return True
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def conclude(client: SyncPrefectClient, job: Job, status: int) -> str:
    """Tell Prefect what the process of a flow run did not; how it ended, in a line.

    Args:
        client: of Prefect's server.
        job: whose process has ended.
        status: its exit status.
    """
    untold.tell(client)
    try:
        state = client.read_flow_run(job.flow_run_id).state
    except ObjectNotFound:
        return f"Flow run {job.flow_run_id} was deleted on Prefect's page; its process has ended."
    if state and not state.is_completed() and (job.cancelled or state.is_cancelling()):
        message = "Stopped as asked; what is done is kept."
        client.set_flow_run_state(job.flow_run_id, Cancelled(message=message), force=True)
        return f"Flow run {job.flow_run_id} is cancelled."
    if state and state.is_paused():
        return f"Flow run {job.flow_run_id} waits for a decision."
    if state and not state.is_final():
        client.set_flow_run_state(job.flow_run_id, Crashed(message=words(status)), force=True)
        return f"Flow run {job.flow_run_id} crashed. {words(status)}"
    return f"Flow run {job.flow_run_id} ended: {state and state.name}."


def words(status: int) -> str:
    """How a process ended that has not told Prefect."""
    number = -status if status < 0 else status - 128
    if number not in set(signal.Signals):
        return f"Its process ended with status {status} and without a word; the worker's log may say more."
    hint = " The system kills so when memory runs out." if number == signal.SIGKILL else ""
    return f"Its process was ended by signal {signal.Signals(number).name}.{hint}"
