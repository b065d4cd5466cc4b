"""Form tokens: a POST is taken only from a form that the page itself made, for this session and path, and only once.

A token is a nonce and its expiry, sealed with the session's secret: making one costs no memory. A nonce that was spent
is remembered until it would have expired.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode

from dashboard.access.refusals import Refused

LIFETIME = 3600
NONCE, EXPIRY, SEAL = 12, 8, 32
"""Bytes of each part."""
MOST = 1000
"""Forms that a session sends within an hour."""
AGAIN = "Load the page again."


def issue(secret: bytes, path: str, now: float) -> str:
    """A token for a POST to `path`."""
    body = secrets.token_bytes(NONCE) + int(now + LIFETIME).to_bytes(EXPIRY, "big")
    return urlsafe_b64encode(body + _seal(secret, body, path)).decode()


def spend(used: dict[bytes, int], secret: bytes, path: str, token: str, now: float) -> None:
    """Use up a token.

    Args:
        used: nonces that were spent, and when each expires; the token's is added.
        secret: of the session.
        path: of the request.
        token: as it came.
        now: seconds since 1970.

    Raises:
        Refused: it is missing, forged, of another session or path, expired or spent.
    """
    if not token:
        raise Refused(403, f"This request has no form token, or several. {AGAIN}")
    body, seal = _parts(token)
    if not hmac.compare_digest(seal, _seal(secret, body, path)):
        raise Refused(403, f"This form token is not one of this session and address. {AGAIN}")
    nonce, expiry = body[:NONCE], int.from_bytes(body[NONCE:], "big")
    if now >= expiry:
        raise Refused(403, f"This form is older than an hour. {AGAIN}")
    if nonce in used:
        raise Refused(403, f"This form was sent before. {AGAIN}")
    for old in [old for old, until in used.items() if until <= now] if len(used) >= MOST else ():
        del used[old]
    if len(used) >= MOST:
        raise Refused(429, f"This session has sent {MOST} forms within an hour. Try again later.")
    used[nonce] = expiry


def _parts(token: str) -> tuple[bytes, bytes]:
    """What is sealed, and the seal; of what is no token, ones that fit nothing."""
    try:
        raw = urlsafe_b64decode(token.encode("ascii"))
    except ValueError:
        raw = b""
    if len(raw) != NONCE + EXPIRY + SEAL:
        raw = bytes(NONCE + EXPIRY + SEAL)
    return raw[: NONCE + EXPIRY], raw[NONCE + EXPIRY :]


def _seal(secret: bytes, body: bytes, path: str) -> bytes:
    return hmac.digest(secret, body + path.encode(errors="surrogatepass"), "sha256")
