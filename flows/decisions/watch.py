"""What happens to waiting cases by itself: silence becomes a no, and an answer on Prefect's page is heard.

Cheap enough for every few seconds: the page, the worker and each `convoy run` call it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from uuid import UUID

from flows.decisions import suspension
from flows.servers.prefect_rest import AWAY, Wire, wired
from pipeline.errors import UserError
from pipeline.registry import cases, decisions
from pipeline.registry.cases import Case
from pipeline.registry.decisions import By, Refused

PERSON = "somebody on Prefect's page"


def watch(project: Path) -> list[str]:
    """Look once at every case that waits; a line for each that was decided."""
    lines = [f"{entry.model} version {entry.to_version} is rejected: {entry.why}" for entry in decisions.silence()]
    waiting = [case for case in waiting_cases() if case.flow_run]
    if waiting:
        with suppress(*AWAY), wired(project) as wire:  # away: the next look may find it back
            for case in waiting:
                lines += _heard(wire, case) if wire else []
    return lines


def waiting_cases() -> list[Case]:
    """The cases that somebody is asked about."""
    found = []
    for name in cases.pending():
        with suppress(UserError):  # gone, or half-made by a process that was killed
            if (standing := cases.standing(name)).state == "waiting":
                found.append(standing.case)
    return found


def waiting_on(flow_run_id: UUID) -> Case | None:
    """The case that a flow run waits for."""
    return next((case for case in waiting_cases() if case.flow_run == str(flow_run_id)), None)


def _heard(wire: Wire, case: Case) -> list[str]:
    found = suspension.answer(wire, case)
    if found is None and suspension.cancelled(wire, case):
        found = suspension.Answer(decision="reject", reason="Its flow run was cancelled on Prefect's page.")
    if found is None:
        return []
    try:
        entry = decisions.decide(found.decision, case.id, By(PERSON, "prefect"), found.reason)
    except Refused as refusal:
        suspension.taken(wire, case)
        suspension.wait_on(wire, case, str(refusal))
        return [f"An answer on Prefect's page was refused: {refusal}"]
    suspension.taken(wire, case)
    return [f"{PERSON} decided: {entry.action} {entry.model} version {entry.to_version}."]
