"""What the guard refuses leaves an entry in the ledger, as what a decision is refused for does."""

from __future__ import annotations

from dashboard.access import Refusal
from pipeline.registry import decisions
from pipeline.registry.ledger import Act


def note_refusal(refusal: Refusal) -> None:
    """Enter a refused request; a ledger that cannot be used is no reason to let it through."""
    via = "api" if refusal.path.startswith("/api/") else "page"
    why = f"{refusal.method} {refusal.path} from {refusal.client}: {refusal.reason}"
    decisions.refuse(Act(action="refuse", model="", who=refusal.who, via=via, why=why[: decisions.LONGEST]))
