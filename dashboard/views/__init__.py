"""The pages, a module each. A folder is a registry: every module here with a `router` is part of the app.

`views/NAME.py` holds

    router = APIRouter()

    @router.get("/NAME")
    def overview(request: Request, person: Viewer) -> Response:
        return page(request, "NAME.html", things=...)       # dashboard/page.py; templates/NAME.html extends base.html

    def badge() -> int: ...                                 # optional: how many things wait there, for the navigation

Handlers are plain functions: they run in threads, and may read files and wait. Whoever waits for longer than a second
starts a job instead (flows/jobs.py). A module whose name begins with `_` is for its neighbours.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType

from fastapi import APIRouter


def modules() -> dict[str, ModuleType]:
    """The views by name."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


def routers() -> list[APIRouter]:
    """Of every view, in the order of their names."""
    return [module.router for module in modules().values()]


def badges() -> dict[str, Callable[[], int]]:
    """By view: how many things wait there, for those that count."""
    return {name: module.badge for name, module in modules().items() if hasattr(module, "badge")}
