"""A signed POST to an address of the user's, tried again while that may help."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import random
import ssl
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from flows.notify.credentials import WEBHOOK_SECRET, WEBHOOK_URL, credential
from flows.notify.message import Delivery, Event, Undelivered, text
from flows.notify.redaction import is_loopback
from pipeline.errors import UserError
from pipeline.params import NotifyOptions

TIMEOUT = 8.0
"""Seconds of silence after which one try is over."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds between tries: they double; each is drawn between half and all of it, lest many try at once."""
MANY = 429


def verify(secret: str, timestamp: str, body: bytes, signature: str) -> bool:
    """Whether `body` comes from somebody who knows `secret`; a receiver may copy this function and `sign`.

    Args:
        secret: what CONVOY_WEBHOOK_SECRET holds at the sender.
        timestamp: the header X-Convoy-Timestamp, in seconds since 1970. Refuse one that is minutes old, or an
            X-Convoy-Delivery that came before: somebody may have kept a genuine message to send it again.
        body: of the request, as it came, before any parsing.
        signature: the header X-Convoy-Signature.
    """
    # Takes the same time wherever the two differ, so that a forger learns nothing from it.
    return hmac.compare_digest(sign(secret, timestamp, body).encode(), signature.encode("utf-8", "replace"))


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The header X-Convoy-Signature."""
    signed = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def channel(options: NotifyOptions) -> Delivery | None:
    """How to post, or None if no address is given.

    Raises:
        UserError: the address cannot be used, or the secret is missing.
    """
    address = credential(WEBHOOK_URL) or options.webhook
    if not address:
        return None
    parts = _parts(address)
    if not (secret := credential(WEBHOOK_SECRET)):
        raise UserError(
            f"{WEBHOOK_SECRET} is missing, the key that messages are signed with. Set it, or {WEBHOOK_SECRET}_FILE "
            "to the path of a file that holds it, to any long random text that the receiver knows too."
        )
    return _Webhook(parts, secret)


def _parts(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not address.isascii() or not address.isprintable() or " " in address:
        raise UserError(f"The address in {WEBHOOK_URL} or notify.webhook is not one of the form https://host/path.")
    return parts


@dataclass(frozen=True)
class _Webhook:
    """One receiver."""

    address: SplitResult
    secret: str

    def __call__(self, event: Event, end: float) -> None:
        """Post `event`; the tries share one id, so that a receiver knows a message that it has already."""
        delivery = str(uuid.uuid4())
        body = json.dumps(_body(event), ensure_ascii=False, sort_keys=True).encode()
        pause = FIRST_PAUSE
        while True:
            problem, asked_for = self._try(event, delivery, body, end)
            if not problem:
                return
            if asked_for is None:
                raise Undelivered(problem)
            wait = max(pause * random.uniform(0.5, 1), asked_for)
            if time.monotonic() + wait >= end:
                raise Undelivered(f"{problem} It was tried until the time was over.")
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _try(self, event: Event, delivery: str, body: bytes, end: float) -> tuple[str, float | None]:
        """What went wrong, if anything, and after how many seconds another try may help; None if it never will."""
        host = self.address.hostname or ""
        opener = urllib.request.build_opener(_NoRedirect, *([urllib.request.ProxyHandler({})] * is_loopback(host)))
        request = urllib.request.Request(
            _without_user(self.address), data=body, headers=self._headers(event, delivery, body)
        )
        try:
            with opener.open(request, timeout=max(0.1, min(TIMEOUT, end - time.monotonic()))):
                return "", None  # what it says to a message that it takes is nobody's business
        except urllib.error.HTTPError as error:
            with error:
                return _refused(host, error)
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"{host} shows a certificate that is not valid: {cause.verify_message}.", None
            silent = isinstance(cause, TimeoutError)
            return f"{host} {'does not answer' if silent else f'cannot be reached ({type(cause).__name__})'}.", 0.0

    def _headers(self, event: Event, delivery: str, body: bytes) -> dict[str, str]:
        timestamp = str(int(time.time()))  # of this try: a late one is no old message
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "convoy",
            "X-Convoy-Event": event.kind,
            "X-Convoy-Delivery": delivery,
            "X-Convoy-Timestamp": timestamp,
            "X-Convoy-Signature": sign(self.secret, timestamp, body),
        }
        if self.address.username is not None:
            login = f"{unquote(self.address.username)}:{unquote(self.address.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
        return headers


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Message and signature go to the address that the user gave, and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _refused(host: str, error: urllib.error.HTTPError) -> tuple[str, float | None]:
    if 300 <= error.code < 400:
        return f"{host} answers {error.code} and names another address, which is not followed; set that one.", None
    problem = f"{host} answers {error.code}."
    if error.code == MANY or error.code >= 500:
        return problem, _retry_after(error.headers.get("Retry-After", ""))
    return problem, None


def _retry_after(header: str) -> float:
    """Seconds to wait as the receiver asks, given as a number or as a date; 0 if it does not."""
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _without_user(address: SplitResult) -> str:
    host = address.netloc.rpartition("@")[2]
    return urlunsplit((address.scheme, host, address.path or "/", address.query, ""))


def _body(event: Event) -> dict[str, Any]:
    return {
        "event": event.kind,
        "model": event.model,
        "run": event.run,
        "headline": event.headline,
        "lines": event.lines,
        "links": event.links,
        "text": text(event),
    }
