"""Who may look, who may change, and what is refused.

`dashboard/app.py` puts it together:

    from dashboard.access import SERVING, Access, Refusal, protect
    from dashboard.views import login

    access = Access.read(host, port, os.environ)      # UserError: no accounts, a bad line, an unsafe file
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(login.router)                  # /login and /logout; then the other pages
    app.mount("/static", StaticFiles(directory=...))  # everybody may read it, and /health
    templates = Jinja2Templates(...)                  # knows form_token as a global, person = request.state.person
    served = protect(app, access, note_refusal, templates)        # last: an ASGI app with the guard around it
    uvicorn.run(served, host=host, port=port, **SERVING)          # SERVING switches off uvicorn's trust in proxies

`note_refusal(Refusal(who, client, method, path, reason))` is a plain function; it is called in a thread.

A page takes who looks, an action who acts:

    @router.get("/runs")
    def runs(request: Request, person: Viewer) -> Response: ...

    @router.post("/decisions/{case}/approve")
    def approve(case: str, person: Approver, why: Annotated[str, Form()]) -> Response: ...

    <form method="post" action="/decisions/{{ case.id }}/approve">
      <input type="hidden" name="token" value="{{ form_token(request, '/decisions/' ~ case.id ~ '/approve') }}">

The guard checks before any route runs, so that one which forgets to ask is safe: whoever is not logged in reaches only
/login, /static/ and /health, and only an approver with a fresh token for exactly this path gets a POST through (a
viewer only /logout). htmx sends the token as `X-Convoy-Token`. Under /api/ a POST is JSON with `Authorization: Bearer
TOKEN`, and has no form token. `raise Refused(status, words)` in a view shows the words, and notes them if something was
to be changed. `person.via` is `loopback` (nobody logs in), `session` or `bearer`; `person` is None in templates for
those who are not logged in. A view that sets its own Content-Security-Policy or Cache-Control keeps it.
"""

from __future__ import annotations

from dashboard.access.guard import SERVING, protect
from dashboard.access.people import Approver, Person, Viewer, form_token
from dashboard.access.refusals import Refusal, Refused
from dashboard.access.settings import Access
from flows.accounts import Role

__all__ = [
    "SERVING",
    "Access",
    "Approver",
    "Person",
    "Refusal",
    "Refused",
    "Role",
    "Viewer",
    "form_token",
    "protect",
]
