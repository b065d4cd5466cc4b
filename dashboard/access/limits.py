"""How often something may be tried, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

OTHERS = ""
"""Once the table is full, all keys that are not in it share this one: nobody flushes it by inventing keys."""


class Limit:
    """So many tries of a key in so many seconds."""

    def __init__(self, most: int, seconds: float, keys: int = 4096, clock: Callable[[], float] = time.time) -> None:
        self.most = most
        self.seconds = seconds
        self.keys = keys
        self.clock = clock
        self.tries: dict[str, tuple[int, float]] = {}
        """How often each key was tried, and when that is forgotten."""

    def take(self, key: str) -> float:
        """Count a try; how many seconds to wait before the next one, 0 if this one is granted."""
        now = self.clock()
        key = self._kept(key, now)
        count, until = self.tries.get(key, (0, now + self.seconds))
        if not until - self.seconds <= now < until:
            count, until = 0, now + self.seconds
        if count >= self.most:
            return until - now
        self.tries[key] = count + 1, until
        return 0.0

    def forgive(self, key: str) -> None:
        """Take a try back that turned out well."""
        if key in self.tries:
            count, until = self.tries[key]
            self.tries[key] = max(0, count - 1), until

    def _kept(self, key: str, now: float) -> str:
        if key not in self.tries and len(self.tries) >= self.keys:
            self.tries = {name: entry for name, entry in self.tries.items() if now < entry[1]}
        return key if key in self.tries or len(self.tries) < self.keys else OTHERS


def neighbourhood(client: str) -> str:
    """What one person has at their disposal: an IPv4 address, or the 64 bits that an IPv6 network is told by."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Address(int(address) >> 64 << 64))
    return client
