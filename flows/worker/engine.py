"""Prefect's engine for a flow that outlives its server: a final state that the server does not take is kept for later.

Prefect's own engine takes a server that is away when a flow has succeeded for a failure of the flow, and tries for
minutes to say so.
"""

from __future__ import annotations

from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import FlowRunEngine
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.notify.redaction import reason, redacted
from flows.worker import untold
from flows.worker.untold import AWAY, End
from pipeline.errors import UserError


class Engine(FlowRunEngine[Any, Any]):
    """Of one flow run."""

    def result(self, raise_on_failure: bool = True) -> Any:
        """What the flow returned; one that waits for a decision has done all that it does."""
        if isinstance(self._return_value, State) and self._return_value.is_paused():
            kept = self._return_value.data
            return getattr(kept, "result", kept)  # Prefect has wrapped it
        return super().result(raise_on_failure)

    def set_state(self, state: State[Any], force: bool = False) -> State[Any]:
        """Propose the state to the server; one that ends the process is asked for once, and holds whatever it says."""
        if not (state.is_final() or state.is_paused()) or self.flow_run is None:
            return super().set_state(state, force)
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                taken = super().set_state(state, force)
        except AWAY:
            untold.ended(
                self.flow_run.id, End(type=state.type.value, name=state.name or "", message=state.message or "")
            )
            self.flow_run.state, self.flow_run.state_name, self.flow_run.state_type = state, state.name, state.type
            return state
        untold.heard(self.flow_run.id)
        return taken


def run(client: SyncPrefectClient, flow: Flow[Any, Any], parameters: dict[str, Any]) -> Any:
    """Run the flow by hand, as a flow run of its own; what it returns.

    Raises:
        UserError: the server went away before the flow began.
    """
    try:
        flow_run = client.create_flow_run(flow, parameters=parameters)
    except AWAY as error:
        raise _went_away(error) from error
    with untold.begun(flow_run.id):
        return run_as(flow_run, flow, parameters)


def run_as(flow_run: FlowRun, flow: Flow[Any, Any], parameters: dict[str, Any] | None = None) -> Any:
    """Run the flow as a flow run that the server has; what it returns.

    Args:
        flow_run: as the server gives it.
        flow: to run.
        parameters: of it; by default those of the flow run.

    Raises:
        UserError: the server went away before the flow began.
    """
    engine = Engine(flow=flow, flow_run=flow_run, parameters=parameters or flow_run.parameters)
    begun = False
    try:
        with engine.start():
            while engine.is_running():
                with engine.run_context():
                    begun = True
                    engine.call_flow_fn()
    except AWAY as error:
        if begun:
            raise
        raise _went_away(error) from error
    if untold.read(flow_run.id):
        print(
            f"Prefect's server at {redacted(PREFECT_API_URL.value())} was away when the run ended. What it has not "
            "heard is told by the next `convoy run` or `convoy up`, or by the worker.",
            flush=True,
        )
    return engine.result()


def _went_away(error: Exception) -> UserError:
    return UserError(
        f"The Prefect server at {redacted(PREFECT_API_URL.value())} went away before the run began: "
        f"{reason(error)[:200]}\n"
        "Start it, or unset PREFECT_API_URL: a run then starts a server of its own."
    )
