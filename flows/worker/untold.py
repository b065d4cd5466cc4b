"""What Prefect's server has not heard of a flow run, kept until it has: how the run ended, and what its page shows.

.convoy/untold/ID.json    from the moment a flow run by hand begins until the server knows its end; of a flow run of the
                          worker, only if the server was away when it ended

A server that is away must not keep a run from ending, and a run that has ended must not look as if it still ran: what
is written here is told by the next `convoy run` or `convoy up`, and by the worker.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from pydantic import Field, ValidationError

from flows.alone import alone
from flows.decisions import suspension, watch
from flows.servers.prefect_rest import wired
from flows.settings import UNTOLD, home
from flows.worker import flow_runs
from pipeline.contracts import Options
from pipeline.files import project, shared, write_json
from pipeline.registry import attempts

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

AWAY = (httpx.HTTPError, ValidationError, JSONDecodeError)
"""A server that refuses, hangs, or answers what makes no sense."""
DEAD = "Its process was killed, or its machine went down. `convoy run` goes on where it was."
MEANWHILE = "Prefect's server was away when the run ended; this was told later."
FORGOTTEN = 7 * 24 * 3600
"""Seconds after which a flow run that the server does not know is given up: deleted, or of another server."""


class End(Options):
    """A state that ends the process."""

    type: str
    """COMPLETED, FAILED, CRASHED, CANCELLED, or PAUSED for a decision."""
    name: str
    message: str = ""


class Shown(Options):
    """An artifact of the flow run's page."""

    type: str
    """table or markdown."""
    key: str
    description: str
    data: str = Field(repr=False)


class Untold(Options):
    """`ID.json`."""

    since: float
    """Seconds since 1970."""
    end: End | None = None
    """None while the flow run is at work, and ever after if it was killed."""
    shown: list[Shown] = Field(default_factory=list)


@contextmanager
def begun(flow_run_id: UUID) -> Iterator[None]:
    """Inside, this process works on a flow run by hand; whoever finds it dead afterwards can say so to the server."""
    with flow_runs.held(project(), flow_run_id):
        _write(flow_run_id, Untold(since=time.time()))
        try:
            yield
        finally:
            flow_runs.forget(project(), flow_run_id)


def heard(flow_run_id: UUID) -> None:
    """The server knows how the flow run ended; what else it did not hear stays."""
    if (note := read(flow_run_id)) and not note.shown:
        _path(flow_run_id).unlink(missing_ok=True)


def ended(flow_run_id: UUID, end: End) -> None:
    """The server did not hear how the flow run ended."""
    _write(flow_run_id, (read(flow_run_id) or Untold(since=time.time())).model_copy(update={"end": end}))


def show(client: SyncPrefectClient, flow_run_id: UUID, shown: list[Shown]) -> None:
    """Put artifacts on the page of the flow run; what the server does not take is kept for later."""
    if left := _show(client, flow_run_id, shown):
        _write(flow_run_id, (read(flow_run_id) or Untold(since=time.time())).model_copy(update={"shown": left}))


def read(flow_run_id: UUID) -> Untold | None:
    """What is written down of a flow run."""
    try:
        return Untold.model_validate_json(_path(flow_run_id).read_bytes())
    except (OSError, ValidationError):
        return None


def left() -> list[UUID]:
    """The flow runs of which the server lacks something, and on which no process works."""
    found = []
    for path in (shared() / UNTOLD).glob("*-*.json"):
        with suppress(ValueError):
            found.append(UUID(path.stem))
    return [one for one in found if not flow_runs.lives(project(), one)]


def tell(client: SyncPrefectClient) -> list[str]:
    """Tell the server what it has not heard; a line for each flow run of which that was the end.

    Raises:
        httpx.HTTPError: the server is away; what it has not heard stays.
    """
    if not left():
        return []
    with alone(shared() / "untold.lock", lambda _: None):
        return [line for flow_run_id in left() if (line := _tell(client, flow_run_id))]


def finished(flow_run_id: UUID) -> End | None:
    """How it ended, if the run that it worked on has finished: the record says so, whatever Prefect shows."""
    for attempt in reversed(attempts.read_all()):
        if attempt.flow_run == str(flow_run_id) and attempt.finished:
            if case := watch.waiting_on(flow_run_id):
                return End(type="PAUSED", name="Suspended", message=suspension.words(case))
            version = f"version {attempt.finished.version} of {attempt.model}: {attempt.finished.outcome}"
            return End(type="COMPLETED", name="Completed", message=f"Run {attempt.id[:8]}, {version}. {MEANWHILE}")
    return None


def set_end(client: SyncPrefectClient, flow_run_id: UUID, end: End) -> None:
    """Show the flow run as ended so."""
    if case := watch.waiting_on(flow_run_id) if end.type == "PAUSED" else None:
        with wired(home(Path.cwd())) as wire:
            if wire:
                suspension.ask(wire, case)
                suspension.wait_on(wire, case, MEANWHILE)
                return
    from prefect.client.schemas.objects import State, StateType

    state: State[Any] = State(type=StateType(end.type), name=end.name, message=end.message or None)
    client.set_flow_run_state(flow_run_id, state, force=True)


def _tell(client: SyncPrefectClient, flow_run_id: UUID) -> str | None:
    from prefect.exceptions import ObjectNotFound

    note = read(flow_run_id)
    if note is None:  # another process has told it meanwhile
        return None
    try:
        flow_run = client.read_flow_run(flow_run_id)
    except ObjectNotFound:  # deleted on the page, or of another server
        if time.time() > note.since + FORGOTTEN:
            _path(flow_run_id).unlink(missing_ok=True)
        return None
    if not_taken := _show(client, flow_run_id, note.shown):
        _write(flow_run_id, note.model_copy(update={"shown": not_taken}))
        return None
    end = finished(flow_run_id) or note.end or End(type="CRASHED", name="Crashed", message=DEAD)
    line = None
    if not _known(flow_run, end, note):
        set_end(client, flow_run_id, end)
        line = f"Prefect now knows that flow run {flow_run.name!r} ({str(flow_run_id)[:8]}) ended: {end.name}."
    _path(flow_run_id).unlink(missing_ok=True)
    return line


def _known(flow_run: FlowRun, end: End, note: Untold) -> bool:
    """Whether the server shows how it ended; a state that it concluded from silence is no knowledge."""
    state = flow_run.state
    if state is None or not (state.is_final() or state.is_paused()):
        return False
    return state.type.value == end.type or (note.end is None and end.type == "CRASHED")


def _show(client: SyncPrefectClient, flow_run_id: UUID, shown: list[Shown]) -> list[Shown]:
    """What the server did not take; after the first one the rest is not tried, for each would wait as long."""
    from prefect.client.schemas.actions import ArtifactCreate

    for number, one in enumerate(shown):
        try:
            client.create_artifact(ArtifactCreate(**one.model_dump(), flow_run_id=flow_run_id))
        except AWAY:
            return shown[number:]
    return []


def _write(flow_run_id: UUID, note: Untold) -> None:
    write_json(_path(flow_run_id), note.model_dump(mode="json"))


def _path(flow_run_id: UUID) -> Path:
    return shared() / UNTOLD / f"{flow_run_id}.json"
