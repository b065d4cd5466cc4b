"""Prefect's server: started for the dashboards, or privately for one run that found no other."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from flows import settings
from flows.notify.redaction import redacted
from flows.servers.databases import prepare
from flows.servers.processes import HOST, PATIENCE, Server, answers, listen, running, start, stop, wait_ready
from pipeline.errors import UserError
from pipeline.files import STATE

REQUEST_SECONDS = 5.0
"""For the server to answer one request of a flow run."""
RETRIES = 2
"""Of a request, before a flow begins; when it ends, what the server does not take at once is kept for later."""
DRAIN_SECONDS = 10.0
"""For events and logs to be sent when a run has ended."""
CHATTY = ("EventsWorker", "APILogWorker")
"""Loggers that count aloud what is left to be sent."""


def start_prefect(root: Path, variables: Mapping[str, str], port: int, parent: int | None = None) -> Server:
    """Start a server; returns at once, and its address can be connected to from then on.

    Args:
        root: the project.
        variables: the environment of its process.
        port: the first one to try; 0 takes any.
        parent: id of the process that it ends with, without pages and scheduler; by default it stays.
    """
    with listen(port) as door:
        port = door.getsockname()[1]
        origins = f"http://{HOST}:{port},http://localhost:{port}"
        own = {
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": origins,
            "PREFECT_UI_API_URL": f"http://{HOST}:{port}/api",
            "PREFECT_UI_ENABLED": "false" if parent else "true",
        }
        if parent:  # it lives shortly: events are written now, not every five seconds
            own["PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL"] = "0.2"
        command = ["-m", "flows.servers.serve_prefect", str(door.fileno()), *([str(parent)] if parent else [])]
        log = root / STATE / "logs" / ("prefect-of-run.log" if parent else "prefect.log")
        process, started = start(command, {**own, **variables}, root, log, handle=door.fileno())
    return Server(name="Prefect", pid=process.pid, started=started, port=port, health="/api/health", log=log)


@dataclass(frozen=True)
class Prefect:
    """The Prefect server of one run: the user's, the dashboards', or a private one."""

    api: str
    """Address of its API."""
    private: Server | None = None

    def wait_ready(self) -> None:
        """Return once it answers.

        Raises:
            UserError: it does not.
        """
        if self.private:
            wait_ready(self.private, PATIENCE)
        elif not answers(f"{self.api}/health", 10.0):
            raise UserError(
                f"The Prefect server at {redacted(self.api)} does not answer. Start it, or unset PREFECT_API_URL: "
                "a run then starts a server of its own."
            )

    @contextmanager
    def client(self) -> Iterator[None]:
        """Inside, Prefect talks to this server; at the end, events and logs that it still holds are sent."""
        self.wait_ready()
        from prefect.settings import (
            PREFECT_API_REQUEST_TIMEOUT,
            PREFECT_API_URL,
            PREFECT_CLIENT_MAX_RETRIES,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
            temporary_settings,
        )

        own = {
            PREFECT_API_URL: self.api,
            PREFECT_API_REQUEST_TIMEOUT: REQUEST_SECONDS,
            PREFECT_CLIENT_MAX_RETRIES: RETRIES,
            # A flow waits up to a second for the thread of its heartbeat to end. No variable can switch it off.
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        }
        with temporary_settings(own), _quiet():
            try:
                yield
            finally:
                _send_rest(self.api)


def _send_rest(api: str) -> None:
    """Send the events and logs that Prefect still holds; while the server is away, give them up.

    Else the interpreter would not end before Prefect has tried each of them for ten seconds and more.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    patience = DRAIN_SECONDS if answers(f"{api}/health", 2.0) else 0.0
    sent = [cast(Any, worker.drain_all(timeout=patience)) for worker in (EventsWorker, APILogWorker)]
    if left := [future for futures in sent for future in futures.not_done]:
        _end_services()
        wait(left, timeout=2.0)


def _end_services() -> None:
    """End what sends events and logs, wherever it waits; Prefect has no other door to that."""
    from prefect._internal.concurrency.threads import get_global_loop

    loop = get_global_loop()._loop
    assert loop is not None

    def end() -> None:
        for task in asyncio.all_tasks(loop):
            if "QueueService" in getattr(task.get_coro(), "__qualname__", ""):
                task.cancel()

    loop.call_soon_threadsafe(end)


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, Prefect does not say for each event and each batch of logs that a server is away: it is said once."""
    aloud, logging.raiseExceptions = logging.raiseExceptions, False
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.raiseExceptions = aloud


@contextmanager
def prefect_for_run(root: Path) -> Iterator[Prefect]:
    """The Prefect server of a run: entering returns at once, and a private one starts beside what follows.

        with prefect_for_run(root) as prefect:
            ...  # other work
            with prefect.client():  # waits for the server
                flow()

    A private server ends with the block, or by itself within seconds of this process being killed.

    Raises:
        UserError: Prefect's database could not be made.
    """
    given = os.environ.get("PREFECT_API_URL")
    dashboard = running(root).get("prefect")
    if given:
        server = Prefect(given.rstrip("/"))
    elif dashboard and dashboard.answers():
        server = Prefect(f"{dashboard.url}/api")
    else:
        prepare(root)
        variables = {**os.environ, **settings.environment(root)}
        private = start_prefect(root, variables, port=0, parent=os.getpid())
        server = Prefect(f"{private.url}/api", private)
    os.environ["PREFECT_API_URL"] = server.api  # for a Prefect that is not imported yet
    try:
        yield server
    finally:
        if not given:
            del os.environ["PREFECT_API_URL"]
        if server.private and (process := server.private.process()):
            stop(process)
