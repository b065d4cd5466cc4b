"""Thumbnails, for the pages that show pictures of a dataset."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response

from dashboard import pictures
from dashboard.access import Viewer
from dashboard.pictures import Missing, Thumbnail

router = APIRouter()
FOR_EVER = "private, max-age=31536000, immutable"
FOR_A_DAY = "private, max-age=86400"
"""Of what this code draws: other code may draw it otherwise."""


@router.get("/pictures/{dataset}/{image}")
def picture(request: Request, person: Viewer, dataset: str, image: str) -> Response:
    """One image of one version of the data; a drawing with status 404 where it is missing."""
    return sent(request, image, "", lambda: pictures.thumbnail(dataset, image))


@router.get("/pictures/{dataset}/{image}/known")
def known(request: Request, person: Viewer, dataset: str, image: str) -> Response:
    """The same with what is known of it drawn on: boxes, a mask."""
    return sent(request, image, f"{dataset[:32]}-known", lambda: pictures.annotated(dataset, image))


def sent(request: Request, image: str, about: str, make: Callable[[], Thumbnail]) -> Response:
    """A picture for a browser to keep.

    Args:
        request: that asks for it.
        image: its id.
        about: what is drawn on it; nothing, if it is the picture alone.
        make: it.
    """
    tag = f'"{image[:32]}{about}"'
    headers = {"Cache-Control": FOR_A_DAY if about else FOR_EVER, "ETag": tag}
    try:
        if request.headers.get("If-None-Match") == tag and pictures.DIGEST.fullmatch(image) and not about:
            return Response(status_code=304, headers=headers)
        found = make()
    except Missing as missing:
        drawing = pictures.placeholder(str(missing))
        return Response(drawing, 404, {"Cache-Control": "no-store"}, media_type="image/svg+xml")
    return Response(found.data, 200, headers, media_type=found.kind)
