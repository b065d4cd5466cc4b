"""The pictures of the step at which a training diverged."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from dashboard import diverged, pictures
from dashboard.access import Viewer
from dashboard.pictures import Missing

router = APIRouter()


@router.get("/runs/{name}/diverged/{file}")
def picture(request: Request, person: Viewer, name: str, file: str) -> Response:
    """One of them; a drawing with status 404 where it is missing. They change when the training starts over."""
    unkept = {"Cache-Control": "no-store"}
    try:
        found = diverged.picture(name, file)
    except Missing as missing:
        return Response(pictures.placeholder(str(missing)), 404, unkept, media_type="image/svg+xml")
    return Response(found.data, 200, unkept, media_type=found.kind)
