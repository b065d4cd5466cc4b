"""Decisions: what waits for one, and each case with challenger beside champion, to be approved or rejected there."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from dashboard import datasets, judged, pictures, sides
from dashboard.access import Approver, Viewer
from dashboard.page import missing, page
from dashboard.sides import Data, Wanted
from dashboard.views.pictures import sent
from pipeline.errors import UserError
from pipeline.registry import cases, decisions
from pipeline.registry.decisions import By, Refused

PAGE, PICTURES, LATEST = 25, 60, 20
"""Cases of a page, pictures of a page, and refusals that the overview shows."""
NOTHING = Wanted("", "", "", "")
Text = Annotated[str, Query(max_length=500)]
Number = Annotated[int, Query(alias="page", ge=1)]

router = APIRouter()
badge = judged.waiting


@router.get("/decisions")
def overview(request: Request, person: Viewer, number: Number = 1) -> Response:
    """What waits, what was decided, and what was refused."""
    known = judged.standings()
    waiting = [one for one in known if one.state in ("waiting", "overdue")]
    rest = [one for one in known if one not in waiting]
    pages = max(1, -(-len(rest) // PAGE))
    number = min(number, pages)
    return page(
        request,
        "decisions.html",
        waiting=waiting,
        rest=rest[(number - 1) * PAGE : number * PAGE],
        total=len(rest),
        number=number,
        pages=pages,
        refused=judged.refusals()[: -LATEST - 1 : -1],
    )


@router.get("/decisions/{case}")
def look(
    request: Request,
    person: Viewer,
    case: str,
    show: Text = "",
    label: Text = "",
    answer: Text = "",
    part: Annotated[str, Query(alias="slice", max_length=500)] = "",
    number: Number = 1,
) -> Response:
    """Challenger beside champion."""
    return _page(request, case, Wanted(show, label, answer, part), number)


@router.post("/decisions/{case}")
def decide(
    request: Request,
    person: Approver,
    case: str,
    decision: Annotated[Literal["approve", "reject"], Form()],
    binding: Annotated[str, Form(max_length=64)],
    why: Annotated[str, Form()] = "",
) -> Response:
    """Approve or reject; refused, with an entry that says so, if anything has changed since it was shown."""
    try:
        decisions.decide(decision, case, By(person.name, "page"), why, binding)
    except Refused as refusal:
        return _page(request, case, NOTHING, 1, str(refusal), why)
    request.app.state.following.wake()
    return RedirectResponse(f"/decisions/{case}", 303)


@router.get("/decisions/{case}/{side}/{image}")
def answer(request: Request, person: Viewer, case: str, side: str, image: str) -> Response:
    """A test image with what one of both says of it drawn on; a drawing with status 404 where it is missing."""
    if side not in sides.SIDES:
        raise missing("There is a challenger and a champion, and nobody else.")
    try:
        dataset = cases.read(case).verdict.dataset
    except UserError as error:
        raise missing(str(error)) from error
    about, said = f"case-{case}-{side}", partial(sides.marks, case, side)
    return sent(request, image, about, lambda: pictures.answered(dataset, image, about, said))


def _legend(data: Data) -> list[tuple[str, str]]:
    return pictures.legend(datasets.opened(data.digest).info.classes) if data.located else []


def _page(request: Request, case: str, wanted: Wanted, number: int, refusal: str = "", why: str = "") -> Response:
    try:
        standing = cases.standing(case)
    except UserError as error:
        raise missing(str(error)) from error
    rows, dataset = standing.case.verdict.slices, standing.case.verdict.dataset
    data = Data(dataset, bool(dataset) and datasets.located(dataset))
    return page(
        request,
        "decision.html",
        409 if refusal else 200,
        one=standing,
        case=standing.case,
        verdict=standing.case.verdict,
        binding=cases.binding(case),
        intact=cases.intact(standing),
        entries=[entry for entry in (*judged.entries(), *judged.refusals()) if entry.case == case],
        classes=[row for row in rows if row.column == "class"],
        slices=[row for row in rows if row.column != "class"],
        images=sides.compared(case, wanted, number, PICTURES // 2 if data.located else PICTURES, data),
        located=data.located,
        legend=_legend(data),
        wanted=wanted,
        link=request.app.state.servers.addresses.version(
            request.url.hostname or "", standing.case.challenger.name, standing.case.challenger.version
        ),
        pairs=lambda names: [(name, name) for name in names],
        refusal=refusal,
        why=why[: decisions.LONGEST],
    )
