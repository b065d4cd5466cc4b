"""A flow run that waits for a decision: suspended on Prefect's page, with a form there, until somebody decides.

Nothing of the run is left to be done meanwhile: its record is written, and no process and no tree waits. Prefect's own
suspension starts the whole flow again for an answer, and only for runs of a deployment.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import httpx
from pydantic import Field, ValidationError

from flows.servers.prefect_rest import Wire
from pipeline.contracts import Options
from pipeline.registry.cases import Case
from pipeline.registry.ledger import Entry

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

ASKED = {"description": "decision-description", "response": "decision-response", "schema": "decision-schema"}
"""Keys under which the server keeps the form and what was filled in."""


class Answer(Options):
    """What somebody fills in on Prefect's page."""

    decision: Literal["approve", "reject"] = Field(description="approve makes this version the champion")
    reason: str = Field(min_length=1, max_length=2000, description="Why, for whoever reads the history")


def suspended(case: Case, data: Any = None) -> State[Any]:
    """The state of a flow run that waits."""
    from prefect.client.schemas.objects import StateDetails
    from prefect.states import Paused

    details = StateDetails(run_input_keyset=ASKED)
    until = datetime.fromtimestamp(case.deadline / 1000, UTC)
    # `reschedule` would start the flow again for an answer; this one has nothing left to do.
    return Paused(
        name="Suspended",
        message=words(case),
        pause_key=case.id,
        pause_expiration_time=until,
        reschedule=False,
        state_details=details.model_dump(),
        data=data,
    )


def words(case: Case) -> str:
    """What is waited for, in a line."""
    version = f"{case.challenger.name} version {case.challenger.version}"
    return (
        f"{version} is better than the champion and waits for a decision until {case.until}: here by Resume, on "
        f"Convoy's page, or by `convoy promote {case.challenger.named}`."
    )


def ask(wire: Wire, case: Case) -> None:
    """Put the form on the page of the case's flow run; twice is once.

    Raises:
        httpx.HTTPError: the server is away.
    """
    reasons = "\n".join(f"- {reason}" for reason in case.verdict.reasons)
    asked = f"{words(case)}\n\n{reasons}\n\nCase `{case.id}`, model `{case.challenger.digest[:12]}`."
    values = {ASKED["schema"]: Answer.model_json_schema(), ASKED["description"]: asked}
    for key, value in values.items():
        wire.delete(_input(case, key))
        wire.post(f"/flow_runs/{case.flow_run}/input", {"key": key, "value": json.dumps(value)})


def answer(wire: Wire, case: Case) -> Answer | None:
    """What somebody has answered on Prefect's page; it stays there until it is `taken`.

    Raises:
        httpx.HTTPError: the server is away.
    """
    if (found := wire.find(_input(case, ASKED["response"]))) is None:
        return None
    try:
        return Answer.model_validate(json.loads(found) if isinstance(found, str) else found)
    except (ValidationError, ValueError):  # not from the form
        taken(wire, case)
        return None


def taken(wire: Wire, case: Case) -> None:
    """The answer was decided on: take it off the page, so that there can be another one."""
    wire.delete(_input(case, ASKED["response"]))


def cancelled(wire: Wire, case: Case) -> bool:
    """Whether somebody has cancelled the flow run on Prefect's page; one that was deleted waits on elsewhere."""
    state = (wire.find(f"/flow_runs/{case.flow_run}") or {}).get("state") or {}
    return state.get("type") in ("CANCELLED", "CANCELLING")


def wait_on(wire: Wire, case: Case, refusal: str) -> None:
    """Let the flow run wait on after an answer that was refused."""
    details = {"pause_key": case.id, "pause_reschedule": False, "run_input_keyset": ASKED}
    details["pause_timeout"] = datetime.fromtimestamp(case.deadline / 1000, UTC).isoformat()
    state = {"type": "PAUSED", "name": "Suspended", "message": f"{refusal} {words(case)}", "state_details": details}
    wire.post(f"/flow_runs/{case.flow_run}/set_state", {"state": state, "force": True})


def end(wire: Wire, case: Case, decision: Entry) -> None:
    """Show the flow run as completed, with who decided what; one that was deleted is left alone.

    Raises:
        httpx.HTTPError: the server is away.
    """
    name = "Approved" if decision.action == "promote" else "Rejected"
    message = f"{name} by {decision.who} ({decision.via}): {decision.why}"
    body = {"state": {"type": "COMPLETED", "name": name, "message": message[:3000]}, "force": True}
    try:
        wire.post(f"/flow_runs/{case.flow_run}/set_state", body)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise


def _input(case: Case, key: str) -> str:
    return f"/flow_runs/{case.flow_run}/input/{key}"
