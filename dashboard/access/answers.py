"""What is sent to those who are refused, and what every answer is told to browsers with."""

from __future__ import annotations

from html import escape
from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from dashboard.access.checks import JSON
from dashboard.access.refusals import Refusal, Refused
from dashboard.access.visit import LOGIN, Visit

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
ALWAYS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
UNLESS_SET = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
PLAIN = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">{head}<title>Convoy</title></head><body><p>{body}</p></body></html>
"""


async def refuse(visit: Visit, request: Request, refused: Refused) -> Response:
    """Note what was refused, if it would have changed something, and say so to whoever sent it."""
    await note(visit, refused)
    if visit.api or _wants_json(visit):
        return JSONResponse({"error": refused.reason}, refused.status, refused.headers)
    if visit.headers.get("hx-request"):
        return _fragment(visit, refused)
    if not visit.trusted:  # a page of ours would read in the name of whoever owns that address
        body = escape(refused.reason)
        return HTMLResponse(PLAIN.format(head="", body=body), refused.status, refused.headers)
    if refused.status == HTTPStatus.UNAUTHORIZED and visit.method == "GET":
        return RedirectResponse(_login(visit.target), HTTPStatus.SEE_OTHER)
    context = {"status": refused.status, "phrase": HTTPStatus(refused.status).phrase, "reason": refused.reason}
    return visit.door.templates.TemplateResponse(request, "refused.html", context, refused.status, refused.headers)


async def note(visit: Visit, refused: Refused, who: str = "") -> None:
    """Hand on what was refused, if it would have changed something."""
    visit.refused = True
    if visit.changing:
        name = who or (visit.person.name if visit.person else "nobody")
        await visit.door.notes.take(Refusal(name, visit.client, visit.method, visit.path, refused.reason))


def detour(target: str) -> Response:
    """To the same address once more, now from a page of ours: browsers keep the cookie back from who follows a link
    on another site."""
    target = escape(local(target))
    head = f'<meta http-equiv="refresh" content="0; url={target}">'
    return HTMLResponse(PLAIN.format(head=head, body=f'<a href="{target}">Go on to Convoy</a>'))


def local(target: str) -> str:
    """The address if it is one of this page, else the front page: nobody is sent elsewhere."""
    here = target[:1] == "/" and target[:2] != "//" and "\\" not in target  # a backslash is a slash to browsers
    return target if here and target.isprintable() and len(target) <= 2000 else "/"


def _fragment(visit: Visit, refused: Refused) -> Response:
    """For htmx, to be put into a page; one whose session has ended is led to the login."""
    headers = dict(refused.headers)
    if refused.status == HTTPStatus.UNAUTHORIZED:
        _, _, shown = visit.headers.get("hx-current-url", "").partition("://")
        headers["HX-Redirect"] = _login("/" + shown.partition("/")[2])
    return HTMLResponse(f'<p class="refused" role="alert">{escape(refused.reason)}</p>', refused.status, headers)


def _login(target: str) -> str:
    target = local(target)
    return f"{LOGIN}?next={quote(target, safe='')}" if target != "/" else LOGIN


def _wants_json(visit: Visit) -> bool:
    accepted = visit.headers.get("accept", "")
    return JSON in accepted and "text/html" not in accepted
