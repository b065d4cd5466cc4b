"""Logging in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dashboard.access.answers import local, note
from dashboard.access.people import visit_of
from dashboard.access.refusals import Refused, clipped
from dashboard.access.visit import LOGIN, LOGOUT

router = APIRouter()


@router.get(LOGIN)
async def login(request: Request, target: Annotated[str, Query(alias="next")] = "/") -> Response:
    """Ask for name and password; who is in already goes on."""
    visit = visit_of(request)
    if visit.person:
        return RedirectResponse(local(target), 303)
    return visit.door.templates.TemplateResponse(
        request, "login.html", {"next": local(target), "name": "", "reason": ""}
    )


@router.post(LOGIN)
async def enter(request: Request) -> Response:
    """Begin a session."""
    visit = visit_of(request)
    name, target = visit.form.get("name", ""), local(visit.form.get("next", "/"))
    logins = visit.door.logins
    try:
        person = await logins.person(name, visit.form.get("password", ""), visit.client)
    except Refused as refused:
        await note(visit, refused, logins.known(name))
        context = {"next": target, "name": clipped(name), "reason": refused.reason}
        return visit.door.templates.TemplateResponse(request, "login.html", context, refused.status, refused.headers)
    visit.enter(person)
    return RedirectResponse(target, 303)


@router.post(LOGOUT)
async def leave(request: Request) -> Response:
    """End the session."""
    visit_of(request).leave()
    return RedirectResponse(LOGIN, 303)
