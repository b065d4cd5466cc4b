"""Who makes a request, and what they may do; what pages and actions ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Depends
from starlette.requests import Request

from dashboard.access.refusals import Refused
from flows.accounts import Role

if TYPE_CHECKING:
    from dashboard.access.visit import Visit

VISIT = "convoy.visit"
"""Where the guard leaves what it knows of a request, in its ASGI scope."""


@dataclass(frozen=True)
class Person:
    """Whoever makes a request."""

    name: str
    role: Role
    via: Literal["loopback", "session", "bearer"]


def visit_of(request: Request) -> Visit:
    """What the guard knows of a request."""
    visit: Visit = request.scope[VISIT]
    return visit


def form_token(request: Request, path: str) -> str:
    """A single-use token for a POST to `path`; empty for those who cannot send one."""
    return visit_of(request).form_token(path)


async def _viewer(request: Request) -> Person:
    person = visit_of(request).person
    if person is None:
        raise Refused(401, "Nobody is logged in.")
    return person


async def _approver(request: Request) -> Person:
    """Who changes something; the guard has checked all of this before, and a mistake there is caught here."""
    visit = visit_of(request)
    if visit.person is None or visit.person.role != Role.APPROVER or not visit.cleared:
        raise Refused(403, "Only an approver may change something, by a form of this page.")
    return visit.person


Viewer = Annotated[Person, Depends(_viewer)]
Approver = Annotated[Person, Depends(_approver)]
