"""The automation that shows a dead run as crashed: Prefect's server does not do so by itself.

Without it, the page shows a run whose process was killed as running for ever.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from flows.worker.heartbeat import EVENT, MESSAGE, SILENCE

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

NAME = "Convoy: show dead runs as crashed"
AT_REST = (
    *("Completed", "Cached", "Failed", "TimedOut", "Crashed", "Cancelled"),
    *("Scheduled", "Late", "AwaitingRetry", "AwaitingConcurrencySlot", "Retrying", "Paused", "Suspended", "Resuming"),
)
"""Names of states in which no heartbeat is due. A final state of another name is safe as well: it cannot crash."""


def install(api: str, auth: str | None) -> None:
    """Create the automation on the server at `api`, or bring it up to date; `auth` is `name:password`."""
    from prefect.client.orchestration import SyncPrefectClient

    with SyncPrefectClient(api, auth_string=auth) as client:
        ensure(client)


def ensure(client: SyncPrefectClient) -> None:
    """Create the automation, or bring it up to date. Whether somebody has switched it off stays as it is."""
    wanted, found = crashed_runs(), client.read_automations_by_name(NAME)
    if not found:
        client.create_automation(wanted)
        return
    kept, *superfluous = found
    for automation in superfluous:  # two were created at the same moment
        client.delete_automation(automation.id)
    if _judgement(kept) != _judgement(wanted):
        client.update_automation(kept.id, wanted.model_copy(update={"enabled": kept.enabled}))


def crashed_runs() -> AutomationCore:
    """After a heartbeat another one is due, or a state at rest; else the run has crashed.

    Measured from the kill to the state: 20 to 36 s, for the last beat may be 10 s old and the server looks every 5 s.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    return AutomationCore(
        name=NAME,
        description="A run that gives no sign of life any more was killed, or its machine went down.",
        enabled=True,
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            after={EVENT},
            expect={EVENT, *(f"prefect.flow-run.{state}" for state in AT_REST)},
            within=timedelta(seconds=SILENCE),
        ),
        actions=[ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message=MESSAGE, force=False)],
    )


def _judgement(automation: AutomationCore) -> object:
    return automation.description, automation.trigger, automation.actions
