"""Ports of loopback for servers that go away and come back."""

from __future__ import annotations

import random
import socket
from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
FIRST, USUAL = 15_000, 32_768


def lasting_port() -> int:
    """A port that nobody uses, and that the system gives to no outgoing connection while its server is away."""
    end = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else USUAL
    ports = list(range(FIRST, end)) if end > FIRST + 1000 else list(range(FIRST, USUAL))
    while True:
        port = random.SystemRandom().choice(ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
