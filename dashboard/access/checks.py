"""What can be told from the head of a request: each check raises `Refused`, or has nothing to say."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from dashboard.access.refusals import Refused, clipped

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
API = "/api/"
SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing by their definition."""
FRAMES = ("iframe", "frame", "embed", "object", "fencedframe")
OURS = ("", "none", "same-origin")
"""`Sec-Fetch-Site` of a request that no other site has sent; old browsers and programs say nothing."""


def check_host(headers: Headers, addresses: Collection[str]) -> None:
    """A name that somebody else points at this machine is none of ours (DNS rebinding)."""
    hosts = headers.getlist("host")
    if len(hosts) != 1 or hosts[0].lower() not in addresses:
        found = repr(clipped(hosts[0])) if len(hosts) == 1 else "none or several"
        raise Refused(403, f"This page does not answer to the host {found}.")


def check_frame(headers: Headers) -> None:
    """A button in a frame is pressed by people who do not see it."""
    if headers.get("sec-fetch-dest", "") in FRAMES:
        raise Refused(403, "This page is not shown inside another one.")


def check_source(headers: Headers) -> None:
    """Another site may link to a page, but load nothing from it into its own."""
    if headers.get("sec-fetch-site", "") not in OURS and headers.get("sec-fetch-mode") != "navigate":
        raise Refused(403, "Another site may link to this page, but not load from it.")


def check_origin(headers: Headers, origins: Collection[str], bearer: bool) -> None:
    """A change is asked for by a page of ours, or by a program with a token."""
    found = headers.getlist("origin")
    if len(found) > 1 or (found and found[0] not in origins):
        raise Refused(403, f"This request was sent by {clipped(', '.join(found))!r}, not by this page.")
    if not found and not bearer and headers.get("sec-fetch-site") != "same-origin":
        raise Refused(403, "This request does not say that this page sent it: it has no Origin.")


def check_type(headers: Headers, wanted: str) -> None:
    """What another site's form can send without being asked (text/plain, multipart) is not taken."""
    found = headers.getlist("content-type")
    if len(found) != 1 or found[0].partition(";")[0].strip().lower() != wanted:
        sent = clipped(", ".join(found)) or "no content type"
        raise Refused(415, f"This request has {sent}; {wanted} is expected.")


def takes(routes: Iterable[BaseRoute], path: str, methods: Sequence[str]) -> list[str]:
    """Those of the methods that some route takes at this path."""
    scope: Scope = {"type": "http", "path": path, "root_path": "", "headers": [], "query_string": b""}
    return [
        method
        for method in methods
        if any(route.matches({**scope, "method": method})[0] == Match.FULL for route in routes)
    ]


def check_method(method: str, taken: Sequence[str]) -> None:
    """An address that takes a POST does nothing for a link that leads to it."""
    if taken and method not in taken:
        words = f"{clipped(method)} does nothing at this address, which takes {' and '.join(taken)}."
        raise Refused(405, words, {"Allow": ", ".join(taken)})
