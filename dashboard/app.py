"""The app of the page: every view, the guard around them, and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from starlette.types import ASGIApp

from dashboard import known, views
from dashboard.access import Access, Refusal, protect
from dashboard.addresses import Addresses
from dashboard.following import Following
from dashboard.page import STATIC, Static, explain_errors, templates
from dashboard.servers import Servers

THREADS = 8
"""In which handlers run; each keeps some memory to itself."""


@dataclass(frozen=True)
class Setup:
    """What the page is told when it starts."""

    root: Path
    """The project, which is the current folder."""
    access: Access
    note_refusal: Callable[[Refusal], None]
    prefect: str = ""
    """Address of its API; by default that of `convoy up`, whenever it runs."""
    prefect_auth: str = ""
    """`name:password`."""
    mlflow: str = ""
    """Address of its server; likewise."""


def create_app(setup: Setup) -> FastAPI:
    """Every page, without the guard: see `served`."""
    servers = Servers(Addresses(setup.root, setup.prefect, setup.prefect_auth, setup.mlflow))

    following = Following(setup.root)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        servers.start()
        following.start()
        async with anyio.create_task_group() as beside:
            beside.start_soon(anyio.to_thread.run_sync, known.everything)  # read before somebody asks
            yield
        servers.stop()
        following.stop()

    app = FastAPI(title="Convoy", docs_url=None, openapi_url=None, redoc_url=None, lifespan=lifespan)
    app.state.setup, app.state.servers, app.state.following = setup, servers, following
    app.state.templates = templates(views.badges())
    explain_errors(app)
    for router in views.routers():
        app.include_router(router)
    app.mount("/static", Static(directory=STATIC), name="static")

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Answers as soon as there is an answer."""
        return {"status": "ok"}

    @app.get("/")
    async def home() -> RedirectResponse:
        """The first page."""
        return RedirectResponse("/runs")

    return app


def served(setup: Setup) -> ASGIApp:
    """What the server serves: the app behind its guard."""
    app = create_app(setup)
    return protect(app, setup.access, setup.note_refusal, app.state.templates)
