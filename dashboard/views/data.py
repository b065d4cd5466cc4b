"""The data: which versions runs have learnt from, and what is in each."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from dashboard import datasets, pictures, samples, versions
from dashboard.access import Viewer
from dashboard.opened import Away, Opened, reading
from dashboard.page import missing, page
from dashboard.pictures import DIGEST
from dashboard.samples import Some
from dashboard.versions import Version
from pipeline.contracts import SPLITS

PAGE = 60
"""Images on a page; so many versions or rejected files too."""
FIRST_CLASSES = 30
"""Of a version with more, the others are shown on request."""
GLIMPSE = 24
"""Images under the counts."""
SHOWS = ("overview", "pictures", "rejected", "problems")

router = APIRouter()
Page = Annotated[int, Query(alias="page", ge=1, le=1_000_000_000)]


@router.get("/data")
def overview(request: Request, person: Viewer, number: Page = 1) -> Response:
    """Every version, newest first."""
    found = versions.known()
    grown = {new.digest: new.images - old.images for new, old in pairwise(found) if _comparable(new, old)}
    number, pages = samples.bounded(number, len(found), PAGE)
    some = Some(found[(number - 1) * PAGE : number * PAGE], len(found), number, pages)
    return page(request, "data.html", some=some, grown=grown, query=_query("/data", {}))


@router.get("/data/{digest}")
def version(
    request: Request,
    person: Viewer,
    digest: str,
    show: str = "overview",
    split: Annotated[str, Query(max_length=20)] = "",
    label: Annotated[str, Query(max_length=7)] = "",
    reason: Annotated[str, Query(max_length=2000)] = "",
    kind: Annotated[str, Query(max_length=100)] = "",
    classes: str = "",
    number: Page = 1,
) -> Response:
    """One version: its counts, its images, what was left out of it, or what is wrong with annotations."""
    found = _version(digest)
    show = show if show in SHOWS else SHOWS[0]
    split = split if split in SPLITS else ""
    asked = {"show": show, "split": split, "label": label, "reason": reason, "kind": kind}
    query = _query(f"/data/{digest}", asked)
    values: dict[str, Any] = {"version": found, "show": show, "query": query, "splits": SPLITS}
    try:
        opened = datasets.opened(digest)
        with reading():
            if show == "pictures":
                values |= _pictures(opened, split, label, number)
            elif show == "rejected":
                some, kinds = samples.rejects(opened, reason, number, PAGE)
                values |= {"some": some, "kinds": kinds, "reason": reason}
            elif show == "problems":
                values |= {"some": samples.problems(opened, kind, number, PAGE), "kind": kind}
            else:
                values |= _counts(opened, every=classes == "all")
    except Away as away:
        return page(request, "data_away.html", version=found, words=str(away), query=query, splits=SPLITS)
    noun, nouns = opened.named
    return page(request, f"data_{show}.html", info=opened.info, noun=noun, nouns=nouns, **values)


def _pictures(version: Opened, split: str, label: str, number: int) -> dict[str, Any]:
    chosen = int(label) if label.isascii() and label.isdecimal() else None
    return {
        "some": samples.images(version, split, chosen, number, PAGE),
        "split": split,
        "label": chosen,
        "by_class": samples.class_column(version) is not None,
        **_drawn(version),
    }


def _drawn(version: Opened) -> dict[str, Any]:
    """How its pictures are shown."""
    return {"located": version.located, "legend": pictures.legend(version.info.classes) if version.located else []}


def _counts(version: Opened, every: bool) -> dict[str, Any]:
    counts = samples.counts(version)
    spans, groups = samples.sizes(version)
    totals = [sum(version.info.counts.get(split, {}).values()) for split in SPLITS]
    return {
        "counts": counts if every or len(counts) <= FIRST_CLASSES else counts[:FIRST_CLASSES],
        "classes": len(counts),
        "totals": totals,
        "spans": spans,
        "groups": groups,
        "columns": samples.metadata(version),
        "some": samples.images(version, "", None, 1, GLIMPSE),
        **_drawn(version),
    }


def _version(digest: str) -> Version:
    """What the records say of it.

    Raises:
        HTTPException: there is no such version; 404.
    """
    found = {one.digest: one for one in versions.known()} if DIGEST.fullmatch(digest) else {}
    if digest not in found:
        raise missing("No version of the data that is known here has this digest.")
    return found[digest]


def _comparable(new: Version, old: Version) -> bool:
    """Whether one may have grown out of the other: both come from the same place, as far as that is known."""
    return new.origin == old.origin or not new.origin


def _query(address: str, asked: dict[str, Any]) -> Callable[..., str]:
    """From changes to the address of the same page with these; whatever is as usual stays out."""

    def query(**changes: Any) -> str:
        given = {key: value for key, value in {**asked, **changes}.items() if value not in ("", None, SHOWS[0])}
        return f"{address}?{urlencode(given)}" if given else address

    return query
