"""Champions: which version of each model is in use, how it came about, and the way back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from dashboard import judged
from dashboard.access import Approver, Viewer
from dashboard.page import missing, page
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.params import Named
from pipeline.registry import decisions, ledger
from pipeline.registry.decisions import By, Refused
from pipeline.registry.ledger import Entry

SHOWN = 100
"""Moves on the time line."""

router = APIRouter()


@router.get("/champion")
def overview(request: Request, person: Viewer, model: Annotated[str, Query(max_length=200)] = "") -> Response:
    """The time line of a model's champion."""
    return _page(request, model or _own())


@router.post("/champion/{model}/rollback")
def rollback(
    request: Request,
    person: Approver,
    model: str,
    to: Annotated[str, Form(max_length=20)],
    epoch: Annotated[int, Form()],
    why: Annotated[str, Form()] = "",
) -> Response:
    """Put an earlier champion back; refused if somebody moved it meanwhile, or its files are gone or changed."""
    try:
        decisions.rollback(model, By(person.name, "page"), why, to, epoch)
    except Refused as refusal:
        return _page(request, model, str(refusal))
    request.app.state.following.wake()
    return RedirectResponse(f"/champion?model={model}", 303)


def _page(request: Request, model: str, refusal: str = "") -> Response:
    entries = judged.entries()
    models = sorted({entry.model for entry in entries if entry.action in ledger.MOVES})
    if models and model not in models:
        if model != _own():
            raise missing(f"{model!r} has had no champion. These have: {', '.join(models)}.")
        model = models[0] if len(models) == 1 else model
    mine = [entry for entry in entries if entry.model == model]
    moves = [entry for entry in mine if entry.action in ledger.MOVES]
    line = [entry for entry in mine if entry.action in (*ledger.MOVES, *ledger.DECISIONS)]
    return page(
        request,
        "champion.html",
        409 if refusal else 200,
        model=model,
        models=models,
        reigning=moves[-1] if moves else None,
        whole=judged.trouble(moves[-1]) if moves else "",
        line=line[: -SHOWN - 1 : -1],
        left_out=max(0, len(line) - SHOWN),
        earlier=_earlier(moves),
        link=request.app.state.servers.addresses.version(request.url.hostname or "", model, moves[-1].to_version)
        if moves
        else "",
        broken=judged.broken(),
        refusal=refusal,
    )


def _earlier(moves: list[Entry]) -> list[Entry]:
    """Those that can be gone back to: each other version once, as it was last put there, newest first."""
    last = {entry.to_version: entry for entry in moves}
    found = [entry for entry in last.values() if moves and entry.model_digest != moves[-1].model_digest]
    return sorted(found, key=lambda entry: entry.epoch, reverse=True)


def _own() -> str:
    try:
        return load(Named).name
    except UserError:  # params.yaml cannot be read; its page of runs says so
        return ""
