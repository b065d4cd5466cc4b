"""The heartbeat of a flow run: as long as its process lives, Prefect's server hears so every ten seconds.

A process that is killed cannot say so itself; the automation beside this concludes it from the silence.

Prefect's own heartbeat beats every 30 s at most, and a flow waits a second for its thread to end. This one has an event
name of its own, so that the automation judges none of the flows that other people run on the same server.
"""

from __future__ import annotations

import contextvars
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

EVENT = "convoy.flow-run.heartbeat"
PERIOD = 10.0
"""Seconds between two beats."""
PATIENCE = 5.0
"""Seconds for the server to take one; a beat that is late is worth nothing, and none is sent twice."""
SILENCE = 30
"""Seconds without a beat after which a run counts as dead: two beats may be lost."""
MESSAGE = (
    f"The process of this run gave no sign of life for {SILENCE} s: it was killed, or its machine went down. "
    "`convoy worker` goes on with a scheduled run, `convoy run` with one that was started by hand."
)
"""Of the state that the automation sets; a run that finds it in its own state lives, and takes it back."""


@contextmanager
def beating(flow_run_id: uuid.UUID | str) -> Iterator[None]:
    """Inside, the server hears that this flow run lives, by a thread for which nobody waits.

    A server that is away is no error: the next beat tries again.
    """
    ended = threading.Event()
    context = contextvars.copy_context()  # Prefect's settings, among them the server's address, live there
    thread = threading.Thread(
        target=context.run, args=(_beat, uuid.UUID(str(flow_run_id)), ended), name="heartbeat", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _beat(flow_run_id: uuid.UUID, ended: threading.Event) -> None:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    # With a timeout of its own the client is ours alone, and not the flow's.
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), suppress(Exception):
        with get_client(sync_client=True, httpx_settings={"timeout": PATIENCE}) as client:
            while not ended.is_set():
                with suppress(Exception):  # whatever the server or the network has, the run goes on
                    _give_sign(client, flow_run_id)
                    _take_back(client, flow_run_id, ended)
                ended.wait(PERIOD)


def _give_sign(client: SyncPrefectClient, flow_run_id: uuid.UUID) -> None:
    event = {
        "id": str(uuid.uuid4()),
        "event": EVENT,
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}"},
    }
    client.request("POST", "/events", json=[event])


def _take_back(client: SyncPrefectClient, flow_run_id: uuid.UUID, ended: threading.Event) -> None:
    """A server that was away for longer than `SILENCE` takes every run for dead when it is back."""
    from prefect.client.schemas.objects import State
    from prefect.states import Running

    state = client.read_flow_run(flow_run_id).state
    if state and state.is_crashed() and state.message == MESSAGE and not ended.is_set():
        alive: State[None] = Running(message="It lives: the server had heard nothing of it for a while.")
        client.set_flow_run_state(flow_run_id, alive, force=True)
