"""The guard: stands before every route, and lets nothing through that has not been checked.

Pure ASGI, so that it sees each request before anything else has read it, and each answer after everything else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.templating import Jinja2Templates
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from dashboard.access import checks
from dashboard.access.answers import ALWAYS, UNLESS_SET, detour, refuse
from dashboard.access.logins import Logins
from dashboard.access.people import VISIT, visit_of
from dashboard.access.refusals import NoteRefusal, Notes, Refused
from dashboard.access.sessions import EACH, MOST, Sessions
from dashboard.access.settings import Access
from dashboard.access.visit import LOGIN, Door, Visit

SERVING: dict[str, Any] = {
    "http": "h11",  # bounds the head of a request
    "ws": "none",
    "proxy_headers": False,  # uvicorn believes X-Forwarded-For from any process on this machine
    "server_header": False,
    "limit_concurrency": 200,
}
"""What uvicorn is to be told."""
BODY = 64 * 1024
PATIENCE = 10.0
"""Seconds for the body of a request."""
OPEN = (LOGIN, "/health")
OPEN_FOLDER = "/static/"


def protect(
    app: FastAPI,
    access: Access,
    note_refusal: NoteRefusal,
    templates: Jinja2Templates,
    clock: Callable[[], float] = time.time,
) -> Guard:
    """Put the guard around an app.

    Args:
        app: the app.
        access: who may come in, and by which address.
        note_refusal: told, in a thread, of every request that would have changed something and was refused.
        templates: have `refused.html`, for the words.
        clock: seconds since 1970.
    """
    each = EACH if access.accounts else MOST
    notes = Notes(note_refusal, clock)
    door = Door(access, Sessions(each, clock), Logins(access.accounts, clock), notes, templates, clock)
    app.add_exception_handler(Refused, _answer)
    return Guard(app, door)


class Guard:
    """An ASGI app around `app`."""

    def __init__(self, app: FastAPI, door: Door) -> None:
        self.app = app
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = scope[VISIT] = Visit(self.door, scope)
        dressed = _dressed(send, visit)
        request = Request(scope)
        try:
            self._look(visit)
            scope["scheme"] = self._scheme(visit)
            if _from_elsewhere(visit):
                await detour(visit.target)(scope, receive, dressed)
                return
            receive = await self._let_in(visit, receive)
        except Refused as refused:
            await (await refuse(visit, request, refused))(scope, receive, dressed)
            return
        await self.app(scope, receive, dressed)

    def _look(self, visit: Visit) -> None:
        """Whatever the head of a request tells."""
        taken = checks.takes(self.app.routes, visit.path, [visit.method])
        others = [] if taken else checks.takes(self.app.routes, visit.path, ["GET", "POST"])
        visit.changing = visit.changing or "POST" in others
        checks.check_host(visit.headers, self.door.access.addresses)
        visit.trusted = True
        visit.identify()
        checks.check_frame(visit.headers)
        checks.check_method(visit.method, others)
        if visit.method in checks.SAFE:
            checks.check_source(visit.headers)
            return
        if visit.api and not visit.bearer:
            raise Refused(401, "A change under /api/ needs a bearer token.", {"WWW-Authenticate": "Bearer"})
        checks.check_origin(visit.headers, visit.origins, visit.bearer)
        checks.check_type(visit.headers, checks.JSON if visit.api else checks.FORM)

    def _scheme(self, visit: Visit) -> str:
        """By which browsers come: a proxy may speak https to them and http to this page, which redirects them."""
        return self.door.access.addresses[visit.headers["host"].lower()].partition(":")[0]

    async def _let_in(self, visit: Visit, receive: Receive) -> Receive:
        """Whatever depends on who sent it, and on the form; what the app is to read."""
        if visit.method not in checks.SAFE:
            body = await _body(visit, receive)
            visit.clear(body)
            receive = _again(body, receive)
        elif visit.person is None and not _open(visit.path):
            raise Refused(401, "Nobody is logged in.")
        by_itself = visit.method in checks.SAFE and "hx-request" in visit.headers
        if visit.session and not by_itself and not _open(visit.path):  # a page that asks by itself is not a person
            self.door.sessions.renew(visit.session)
        return receive


def _open(path: str) -> bool:
    """Whether it is for everybody."""
    return path in OPEN or path.startswith(OPEN_FOLDER)


def _from_elsewhere(visit: Visit) -> bool:
    """Whether somebody follows a link on another site, so that the browser has kept the cookie back."""
    foreign = visit.headers.get("sec-fetch-site", "") not in checks.OURS
    return foreign and visit.method == "GET" and not visit.shown and not visit.api and not _open(visit.path)


async def _body(visit: Visit, receive: Receive) -> bytes:
    """All of it, if it is not large and not slow."""
    length = visit.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > BODY:
        raise Refused(413, f"This request is larger than {BODY // 1024} KiB.")
    body = b""
    try:
        async with asyncio.timeout(PATIENCE):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "This request broke off.")
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > BODY:
                    raise Refused(413, f"This request is larger than {BODY // 1024} KiB.")
    except TimeoutError:
        raise Refused(408, f"The rest of this request did not come within {PATIENCE:g} s.") from None
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """What was read, for the app."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _dressed(send: Send, visit: Visit) -> Send:
    """Answers with what browsers are to be told, and with the cookie."""
    access = visit.door.access

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message["headers"]))
            for name, value in ALWAYS.items():
                headers[name] = value
            for name, value in UNLESS_SET.items():
                headers.setdefault(name, value)
            if visit.cookie is not None:
                ends = "" if visit.cookie else "; Max-Age=0"
                secure = "; Secure" if access.secure else ""
                cookie = f"{access.cookie}={visit.cookie}; HttpOnly; SameSite=Strict; Path=/{secure}{ends}"
                headers.append("Set-Cookie", cookie)
            message = {**message, "headers": headers.raw}
        await send(message)

    return sent


async def _answer(request: Request, error: Exception) -> Response:
    """For what a view refuses."""
    assert isinstance(error, Refused)
    return await refuse(visit_of(request), request, error)
