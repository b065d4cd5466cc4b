"""Templates, what they know beside what a view gives them, and the pages for what goes wrong."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from jinja2 import Environment, FileSystemLoader
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from dashboard import bars, wording
from dashboard.access import form_token
from pipeline.errors import UserError
from pipeline.wording import short

HOME = Path(__file__).parent
STATIC = HOME / "static"
NOTHING = "There is nothing at this address."
FAILED = "This page could not be made. What happened is in the log of the server; looking changes nothing."


def templates(badges: Mapping[str, Callable[[], int]]) -> Jinja2Templates:
    """The environment of every page; escaping is on.

    Args:
        badges: how many things wait behind an entry of the navigation.
    """
    environment = Environment(
        loader=FileSystemLoader(HOME / "templates"),
        autoescape=True,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = (wording.fixed, wording.signed, wording.between, wording.spread, wording.percent, wording.chance, short)
    words = (wording.number, wording.count, wording.size, wording.plain, wording.coded, wording.members)
    times = (wording.moment, wording.took, wording.since)
    for word in (*numbers, *words, *times, wording.title):
        environment.filters["words" if word is wording.title else word.__name__] = word
    environment.globals.update(
        static=static,
        form_token=form_token,
        interval_bar=bars.interval_bar,
        difference_bar=bars.difference_bar,
        badge_of=lambda name: _badge(badges, name),
    )
    return Jinja2Templates(env=environment, context_processors=[_person])


def page(request: Request, template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
    """A template filled in; it also knows `request` and `person`."""
    found: Jinja2Templates = request.app.state.templates
    return found.TemplateResponse(request, template, values, status_code=status)


@cache
def static(name: str) -> str:
    """The address of a file of `static/`, with its digest: a browser may keep it for ever."""
    return f"/static/{name}?{hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]}"


class Static(StaticFiles):
    """The files of `static/`: asked for with a digest, they never change."""

    def file_response(self, *given: Any, **more: Any) -> Response:
        """See `StaticFiles`."""
        answer = super().file_response(*given, **more)
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return answer


def missing(words: str) -> HTTPException:
    """To be raised where there is no such thing: a page with status 404."""
    return HTTPException(404, words)


def explain_errors(app: FastAPI) -> None:
    """Answer what goes wrong with words, as a page or, under /api/, as JSON; `access` does so for what is refused."""

    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        plain = error.detail in (phrase := HTTPStatus(error.status_code).phrase, "")
        answer = _said(request, error.status_code, phrase, NOTHING if plain else str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        places = ", ".join(sorted({str(problem["loc"][-1]) for problem in error.errors()}))
        return _said(request, 422, "That cannot be understood", f"This request lacks or misstates: {places}.")

    def user(request: Request, error: Exception) -> Response:
        return _said(request, 409, "That cannot be done", str(error))

    def failed(request: Request, error: Exception) -> Response:
        logging.getLogger("dashboard").error("%s %s", request.method, request.url.path, exc_info=error)
        return _said(request, 500, "Something went wrong", FAILED)

    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(UserError, user)
    app.add_exception_handler(Exception, failed)


def _said(request: Request, status: int, heading: str, words: str) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": words}, status)
    return page(request, "error.html", status, heading=heading, words=words)


def _badge(badges: Mapping[str, Callable[[], int]], name: str) -> int:
    return badges[name]() if name in badges else 0


def _person(request: Request) -> dict[str, Any]:
    return {"person": getattr(request.state, "person", None)}
