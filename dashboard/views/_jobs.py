"""Commands that a page starts."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from dashboard.access import Person
from flows import jobs


def begin(request: Request, person: Person, argv: Sequence[str]) -> Response:
    """Start `convoy ARGV` and go to where it can be followed.

    Raises:
        UserError: it is nothing that the page starts, or too much is at work.
    """
    job = jobs.start(request.app.state.setup.root, argv, person.name)
    return RedirectResponse(f"/jobs/{job.id}", 303)
