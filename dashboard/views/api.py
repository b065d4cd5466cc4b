"""The page for programs: JSON under /api/, with `Authorization: Bearer TOKEN` of an account (`convoy account --token`).

GET  /api/runs                       every run, newest first: `pipeline.registry.glances.Glance`
GET  /api/decisions                  every case: id, model, version, state, outcome, reasons, deadline
GET  /api/decisions/CASE             one, whole, with `binding`
POST /api/decisions/CASE             {"decision": "approve" | "reject", "why": "...", "binding": "..."}
GET  /api/champions/MODEL            the champion, and every move, newest first
POST /api/champions/MODEL/rollback   {"to": "3", "epoch": 7, "why": "..."}
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request

from dashboard import judged, known
from dashboard.access import Approver, Viewer
from dashboard.page import missing
from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.registry import cases, decisions, ledger
from pipeline.registry.cases import Standing
from pipeline.registry.decisions import By

VIA = "api"
router = APIRouter(prefix="/api")


class Decision(Options):
    """What is decided about a case."""

    decision: Literal["approve", "reject"]
    why: str
    binding: str
    """As the case was shown."""


class Rollback(Options):
    """Where to go back to."""

    to: str
    """A version."""
    epoch: int
    """Of the ledger, as it was shown."""
    why: str


@router.get("/runs")
def runs(person: Viewer) -> list[dict[str, Any]]:
    """Every run."""
    return [one.glance.model_dump(mode="json") for one in known.everything()]


@router.get("/decisions")
def overview(person: Viewer) -> list[dict[str, Any]]:
    """Every case, in short."""
    return [_short(one) for one in judged.standings()]


@router.get("/decisions/{case}")
def look(person: Viewer, case: str) -> dict[str, Any]:
    """One case, whole."""
    try:
        standing = cases.standing(case)
    except UserError as error:
        raise missing(str(error)) from error
    decision = standing.decision.model_dump(mode="json") if standing.decision else None
    whole = {"case": standing.case.model_dump(mode="json"), "decision": decision, "binding": cases.binding(case)}
    return _short(standing) | whole


@router.post("/decisions/{case}")
def decide(request: Request, person: Approver, case: str, given: Decision) -> dict[str, Any]:
    """Approve or reject; 409 and the reason if it is refused."""
    entry = decisions.decide(given.decision, case, By(person.name, VIA), given.why, given.binding)
    request.app.state.following.wake()
    return entry.model_dump(mode="json")


@router.get("/champions/{model}")
def champion(person: Viewer, model: str) -> dict[str, Any]:
    """Who reigns, and who did."""
    moves = [entry for entry in judged.entries() if entry.model == model and entry.action in ledger.MOVES]
    line = [entry.model_dump(mode="json") for entry in reversed(moves)]
    return {"model": model, "champion": line[0] if line else None, "moves": line}


@router.post("/champions/{model}/rollback")
def rollback(request: Request, person: Approver, model: str, given: Rollback) -> dict[str, Any]:
    """Put an earlier champion back; 409 and the reason if it is refused."""
    entry = decisions.rollback(model, By(person.name, VIA), given.why, given.to, given.epoch)
    request.app.state.following.wake()
    return entry.model_dump(mode="json")


def _short(one: Standing) -> dict[str, Any]:
    case = one.case
    return {
        "id": case.id,
        "model": case.challenger.name,
        "version": case.challenger.version,
        "state": one.state,
        "outcome": case.verdict.outcome,
        "reasons": list(case.verdict.reasons),
        "deadline": case.deadline,
        "run": case.run,
    }
