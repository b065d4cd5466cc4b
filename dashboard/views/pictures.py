"""Thumbnails, for the pages that show pictures of a dataset."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from dashboard import pictures
from dashboard.access import Viewer
from dashboard.pictures import Missing

router = APIRouter()
FOR_EVER = "private, max-age=31536000, immutable"


@router.get("/pictures/{dataset}/{image}")
def picture(request: Request, person: Viewer, dataset: str, image: str) -> Response:
    """One image of one version of the data; a drawing with status 404 where it is missing."""
    tag = f'"{image[:32]}"'
    headers = {"Cache-Control": FOR_EVER, "ETag": tag}
    try:
        if request.headers.get("If-None-Match") == tag and pictures.DIGEST.fullmatch(image):
            return Response(status_code=304, headers=headers)
        found = pictures.thumbnail(dataset, image)
    except Missing as missing:
        drawing = pictures.placeholder(str(missing))
        return Response(drawing, 404, {"Cache-Control": "no-store"}, media_type="image/svg+xml")
    return Response(found.data, 200, headers, media_type=found.kind)
