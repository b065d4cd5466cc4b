"""The dashboards' servers, the review page, Prefect and MLflow: started, remembered in `.convoy/servers.json`, stopped.

The latter two listen on loopback only, and are hardened: Prefect asks for a password, checks for forged requests
(CSRF) and grants no other origin; MLflow refuses foreign hosts and foreign origins. The page guards itself, see
dashboard/access.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from flows import settings
from flows.decisions import follow
from flows.notify.redaction import redacted
from flows.servers.databases import prepare
from flows.servers.prefect_server import prefect_for_run, start_prefect
from flows.servers.processes import HOST, PATIENCE, Server, listen, record, running, start, stop, wait_ready
from flows.worker import automations
from pipeline.errors import UserError
from pipeline.files import STATE, write_json

__all__ = ["Server", "down", "missing", "prefect_for_run", "prepare", "running", "up"]

PAGE_PORT, PREFECT_PORT, MLFLOW_PORT = 4300, 4200, 5000
HOST_VARIABLE, PORT_VARIABLE = "CONVOY_PAGE_HOST", "CONVOY_PAGE_PORT"
ELSEWHERE = {"prefect": "PREFECT_API_URL", "mlflow": "MLFLOW_TRACKING_URI"}
"""Variables by which a user names a server of their own."""

FIRST = {"page": "", "prefect": "", "mlflow": "/#/experiments?workflowType=machine_learning"}
"""Where to look first; MLflow greets a new browser with its pages for language models otherwise."""

Say = Callable[[str], None]
Starter = Callable[[Path, Mapping[str, str]], Server]


@dataclass(frozen=True)
class PageAt:
    """Where the review page listens."""

    host: str = HOST
    """Elsewhere than on loopback it wants accounts: see `convoy account`."""
    port: int = PAGE_PORT
    """The first one to try."""


def up(root: Path, say: Say = print, page: PageAt | None = None) -> dict[str, Server]:
    """Start the dashboards' servers that do not run yet, and wait until each answers.

    Args:
        root: the project.
        say: takes each line of progress.
        page: where the review page listens; by default as the variables say.

    Returns:
        The servers by `page`, `prefect` and `mlflow`; those are missing whose like the user's variables name.

    Raises:
        UserError: one did not start; what this call started is stopped again.
    """
    variables, page = {**os.environ, **settings.environment(root)}, page or _page_at()
    # The page first: what keeps it from starting, as accounts that are missing, is said before anything else starts.
    wanted: dict[str, Starter] = {"page": partial(_start_page, page)}
    for name, starter in (("prefect", _start_prefect), ("mlflow", _start_mlflow)):
        if address := _elsewhere(name, variables):
            say(f"{ELSEWHERE[name]} names a server already, {redacted(address)}: none is started here.")
        else:
            wanted[name] = starter
    with _locked(root):
        servers = running(root)
        to_start = [name for name in wanted if name not in servers]
        try:
            for name in to_start:
                if name != "page":
                    prepare(root, say)
                servers[name] = wanted[name](root, variables)
                _remember(root, servers)  # before it answers: whatever happens now, `down` finds it
                if name == "page":
                    wait_ready(servers[name], PATIENCE)
            if to_start:
                say(f"Start {', '.join(servers[name].name for name in to_start)} ...")
            for name, server in servers.items():
                wait_ready(server, PATIENCE)
                if name == "prefect" and name in to_start:
                    automations.install(f"{server.url}/api", variables.get("PREFECT_SERVER_API_AUTH_STRING"))
        except BaseException:
            _end(root, {name: servers[name] for name in to_start if name in servers})
            raise
    for name in (name for name in wanted if name in servers):
        again = "" if name in to_start else "  (up already)"
        if name == "page" and again and servers[name].host != page.host:
            again = f"  (up already, on {servers[name].host}; `convoy down` first to move it to {page.host})"
        say(f"{servers[name].name + ':':8} {servers[name].url}{FIRST[name]}{again}")
    follow.start(root)  # MLflow's aliases are brought in line with the ledger
    if "prefect" in servers:
        _apply_schedules(root, say)
        say(f"Prefect's page asks to log in, once: give it the line in {settings.password_file(root)}")
    return servers


def missing(root: Path) -> list[str]:
    """Those of `up`'s servers that do not run."""
    found = running(root)
    return [name for name in FIRST if name not in found and not _elsewhere(name, os.environ)]


def down(root: Path, say: Say = print) -> list[str]:
    """Stop the servers that `up` started, with all their children; the names of those that ran."""
    with _locked(root):
        servers = running(root)
        _end(root, servers)
    names = [server.name for server in servers.values()]
    say(f"Stopped {' and '.join(names)}." if names else "No server of this project runs.")
    return names


def _apply_schedules(root: Path, say: Say) -> None:
    """Bring the server in line with prefect.yaml; a mistake in that file does not keep the dashboards down."""
    from prefect.settings import PREFECT_API_AUTH_STRING, temporary_settings

    from flows.schedule.server import bring_in_line, reachable
    from flows.worker import untold

    try:
        with temporary_settings({PREFECT_API_AUTH_STRING: settings.password(root)}), reachable(root) as client:
            for line in untold.tell(client) if client else ():
                say(line)
            for line in bring_in_line(client, root) if client else ():
                say(line)
    except UserError as error:
        say(f"The schedules are not applied. {error}")


def _elsewhere(name: str, variables: Mapping[str, str]) -> str:
    """The address of the user's own server, if the variables name one."""
    address = variables.get(ELSEWHERE.get(name, ""), "")
    return address if address.startswith(("http:", "https:")) else ""


def _page_at() -> PageAt:
    port = os.environ.get(PORT_VARIABLE) or str(PAGE_PORT)
    if not port.isdecimal() or not 0 < int(port) < 65_436:
        raise UserError(f"{PORT_VARIABLE}={port}: expected a port, as {PAGE_PORT}. Set one, or unset it.")
    return PageAt(os.environ.get(HOST_VARIABLE) or HOST, int(port))


def _start_page(page: PageAt, root: Path, variables: Mapping[str, str]) -> Server:
    with listen(page.port, page.host) as door:
        log = root / STATE / "logs" / "page.log"
        command = ["-m", "dashboard", str(door.fileno()), page.host]
        process, started = start(command, variables, root, log, handle=door.fileno())
        port = door.getsockname()[1]
    return Server(name="Review", pid=process.pid, started=started, port=port, host=page.host, health="/health", log=log)


def _start_prefect(root: Path, variables: Mapping[str, str]) -> Server:
    return start_prefect(root, variables, PREFECT_PORT)


def _start_mlflow(root: Path, variables: Mapping[str, str]) -> Server:
    with listen(MLFLOW_PORT) as free:
        port = free.getsockname()[1]
    hosts = [f"{host}:{port}" for host in (HOST, "localhost")]
    command = ["-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", (root / STATE / "mlartifacts").as_uri()]
    command += ["--allowed-hosts", ",".join(hosts), "--x-frame-options", "DENY"]
    command += ["--cors-allowed-origins", ",".join(f"http://{host}" for host in hosts)]
    log = root / STATE / "logs" / "mlflow.log"
    # Not in the command, which every user of the machine can read: the address of a database holds its password.
    given = {**variables, "MLFLOW_BACKEND_STORE_URI": variables["MLFLOW_TRACKING_URI"]}
    process, started = start(command, given, root, log)
    return Server(name="MLflow", pid=process.pid, started=started, port=port, health="/health", log=log)


def _end(root: Path, servers: Mapping[str, Server]) -> None:
    with ThreadPoolExecutor() as side_by_side:
        list(side_by_side.map(stop, [process for server in servers.values() if (process := server.process())]))
    _remember(root, running(root))


def _remember(root: Path, servers: Mapping[str, Server]) -> None:
    write_json(record(root), {name: server.model_dump(mode="json") for name, server in servers.items()})


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    path = root / STATE / "servers.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel frees it, however this process ends
        yield


if __name__ == "__main__":
    if sys.argv[1:] != ["prepare"]:
        sys.exit("usage: python -m flows.servers.dashboards prepare")
    try:
        prepare(Path.cwd())
    except UserError as error:
        sys.exit(str(error))
