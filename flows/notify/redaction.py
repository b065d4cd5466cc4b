"""Texts without secrets: what may be shown, logged or sent."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

HIDDEN = "***"
ADDRESS = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<rest>[^\s<>\"'`]*)", re.IGNORECASE)
SHORTEST = 4
"""Characters of a secret that is worth hiding; a shorter one would riddle every text."""


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without `secrets`, and with no user, password or query in any address.

    A query goes because many a service takes its key there.
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= SHORTEST:
            text = text.replace(secret, HIDDEN)
    return ADDRESS.sub(lambda found: found["scheme"] + _bare(found["rest"]), text)


def reason(error: BaseException) -> str:
    """What an error says, in a line without secrets; its type, if it says nothing."""
    return redacted(" ".join(str(error).split())) or type(error).__name__


def _bare(rest: str) -> str:
    rest, query, _ = rest.partition("?")
    host, slash, path = rest.partition("/")
    _, at, host = host.rpartition("@")
    return (f"{HIDDEN}@" if at else "") + host + slash + path + (f"?{HIDDEN}" if query else "")


def is_loopback(host: str) -> bool:
    """Whether `host` names this very machine, so that nobody else can listen on the way."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
