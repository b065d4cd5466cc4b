"""The process behind a Prefect server of ours: `python -m flows.servers.serve_prefect FILE_DESCRIPTOR [PARENT]`.

It serves on a socket that is already open, so its address is known, and can be connected to, before it is ready. With
the id of a parent it is a private server: only what a flow run needs, and it ends when the parent does.

Prefect's own command takes twice as long to be ready: a second interpreter, and a garbage collector that looks again
and again at classes that stay.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from flows.servers.processes import HOST

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MEMORY = "P30D"
"""How long the server remembers that a heartbeat is due; by default a minute, and a run that died together with its
server would be shown as running for ever."""
QUIET = 0.4
"""Seconds that the server's queues must be empty before it may end: longer than the flush interval of a private one."""


def main() -> None:
    """Serve until told to stop."""
    gc.disable()  # while classes are made: there is no garbage yet, and looking for it takes a fifth of the start
    handle, *parent = (int(argument) for argument in sys.argv[1:])
    if parent:
        threading.Thread(target=end_with, args=parent, daemon=True).start()
    os.environ.setdefault("PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER", MEMORY)

    import uvicorn
    from prefect.server.api.server import create_app

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await recorded()
            await super().shutdown(sockets)

    door = socket.socket(fileno=handle)
    app = guarded(create_app(ephemeral=bool(parent)), door.getsockname()[1])  # ephemeral: no pages, no scheduler
    gc.freeze()
    gc.enable()
    config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=3)
    Server(config).run(sockets=[door])


def guarded(app: App, port: int) -> App:
    """The app with a word to browsers on every answer: talk to this server alone, and show it in nobody's frame.

    Prefect's pages load a tracker from another host, before anybody could log in and whatever the settings say.
    """
    hosts = f"{HOST}:{port}", f"localhost:{port}"
    sources = " ".join(f"{scheme}://{host}" for scheme in ("http", "ws") for host in hosts)
    policy = f"connect-src 'self' {sources}; frame-ancestors 'none'".encode()

    async def guard(scope: Message, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"content-security-policy", policy)]
            await send(message)

        await app(scope, receive, sending if scope["type"] == "http" else send)

    return guard


async def recorded(limit: float = 10.0) -> None:
    """Return once everything that clients sent is in the database.

    Prefect takes events in and writes them later: ended at once, it lost 27 of 40 task runs of flows that had finished.
    """
    from prefect.server.utilities.messaging.memory import Topic

    end = quiet_since = time.monotonic()
    end += limit
    while (now := time.monotonic()) < end and now - quiet_since < QUIET:
        if any(
            subscription._queue.qsize() for topic in Topic._topics.values() for subscription in topic._subscriptions
        ):
            quiet_since = now
        await asyncio.sleep(0.02)


def end_with(parent: int) -> None:
    """End this process once `parent` has ended, however it ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)
    os._exit(1)


if __name__ == "__main__":
    main()
