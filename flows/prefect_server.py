"""Prefect's server: started for the dashboards, or privately for one run that found no other."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flows import settings
from flows.databases import prepare
from flows.processes import HOST, PATIENCE, Server, answers, listen, running, start, stop, wait_ready
from pipeline.errors import UserError
from pipeline.files import STATE


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
        command = ["-m", "flows.serve_prefect", str(door.fileno()), *([str(parent)] if parent else [])]
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
                f"The Prefect server at {self.api} does not answer. Start it, or unset PREFECT_API_URL: "
                "a run then starts a server of its own."
            )

    @contextmanager
    def client(self) -> Iterator[None]:
        """Inside, Prefect talks to this server; at the end, events and logs that it still holds are sent."""
        self.wait_ready()
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker
        from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        # A flow waits up to a second for the thread of its heartbeat to end. No variable can switch it off.
        with temporary_settings({PREFECT_API_URL: self.api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            try:
                yield
            finally:
                logging.getLogger("prefect.EventsWorker").setLevel(logging.ERROR)  # it counts aloud what is left
                EventsWorker.drain_all(timeout=10)
                APILogWorker.drain_all(timeout=10)


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
        if given is None:
            del os.environ["PREFECT_API_URL"]
        if server.private and (process := server.private.process()):
            stop(process)
