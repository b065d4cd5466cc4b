"""Background processes on loopback: start one, wait until it answers, see whether it still runs, end it and its kin.

A process is known by its id and its birth together: ids are used again, and nothing but ours may be ended.
"""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from pipeline.contracts import Options
from pipeline.errors import UserError
from pipeline.files import STATE

HOST = "127.0.0.1"
ANY = ("0.0.0.0", "::")  # noqa: S104 (a name for it; nothing is bound here)
"""Hosts that stand for every address of the machine."""
PATIENCE = 90.0
"""Seconds for a server to answer; 3 to 6 on two idle cores."""
ROUNDING = 1.5
"""Seconds by which two looks at when a process began may differ: the system rounds the time of its own start."""


class Server(Options):
    """A server that was started, as `servers.json` keeps it."""

    name: str
    """As people call it: `Prefect`."""
    pid: int
    started: float
    """See `born`."""
    port: int
    host: str = HOST
    """That it listens on."""
    health: str
    """Path that answers 200 once the server is ready."""
    log: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        host = HOST if self.host in ANY else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def process(self) -> psutil.Process | None:
        """The process, if it still runs."""
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid)
            ours = abs(born(found) - self.started) < ROUNDING
            if ours and found.status() != psutil.STATUS_ZOMBIE:
                return found
        return None

    def answers(self, timeout: float = 2.0) -> bool:
        """Whether its health check passes within `timeout` seconds."""
        return answers(self.url + self.health, timeout)


def born(process: psutil.Process) -> float:
    """When a process began, in seconds, by a count that stays as it is when the clock is set.

    Linux counts from the start of the machine: as a time of day it would move with the clock. macOS keeps that time.
    """
    return process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0)


def record(root: Path) -> Path:
    """The file that remembers the servers of `convoy up`."""
    return root / STATE / "servers.json"


def running(root: Path) -> dict[str, Server]:
    """The servers that `convoy up` started and that still run, by `page`, `prefect` and `mlflow`."""
    try:
        kept = json.loads(record(root).read_bytes())
        servers = {name: Server.model_validate(entry) for name, entry in kept.items()}
    except (OSError, ValueError, AttributeError):  # none yet, or written by somebody else
        return {}
    return {name: server for name, server in servers.items() if server.process()}


def answers(url: str, timeout: float) -> bool:
    """Whether a GET of `url` gives status 200 within `timeout` seconds; no proxy is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def listen(preferred: int, host: str = HOST) -> socket.socket:
    """A listening socket at the first port from `preferred` on that nobody uses; 0 takes any. By default on loopback.

    Whoever connects to it waits in line until a process accepts, so a server's address is good before the server is.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(preferred, preferred + 100) if preferred else [0]:
        ours = socket.socket(family)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a port rests a minute after its last use
        try:
            if port and _answered(family, host, port):
                ours.close()
                continue
            ours.bind((host, port))
            ours.listen(128)
        except (OSError, UnicodeError) as error:  # the latter from what cannot be a name
            ours.close()
            number, reason = getattr(error, "errno", None), getattr(error, "strerror", None)
            if number not in (errno.EADDRINUSE, errno.EACCES):
                raise UserError(
                    f"Nothing can listen on {host}: {reason or error}. Give an address of this machine."
                ) from error
            continue
        return ours
    raise UserError(f"No free port on {host} between {preferred} and {preferred + 99}; end what uses them.")


def _answered(family: socket.AddressFamily, host: str, port: int) -> bool:
    """Whether somebody listens there: macOS lets us bind a port that another program holds on every address."""
    with socket.socket(family) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def start(
    command: Sequence[str], variables: Mapping[str, str], root: Path, log: Path, handle: int | None = None
) -> tuple[subprocess.Popen[bytes], float]:
    """Run `python COMMAND` in a session of its own, so that Ctrl-C in the terminal does not reach it.

    Args:
        command: what follows the interpreter.
        variables: its whole environment.
        root: its working folder.
        log: file that its output replaces.
        handle: an open file that it inherits.

    Returns:
        The process, and when it was born.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=root,
            env=dict(variables),
            pass_fds=() if handle is None else (handle,),
            start_new_session=True,
        )
    try:
        return process, born(psutil.Process(process.pid))
    except psutil.NoSuchProcess:  # it has ended already, so no birth is wrong
        return process, 0.0


def wait_ready(server: Server, timeout: float) -> None:
    """Return once `server` answers.

    Raises:
        UserError: it ended, or said nothing for `timeout` seconds; with the last lines of its log.
    """
    end = time.monotonic() + timeout
    while not server.answers(timeout=max(0.1, min(5.0, end - time.monotonic()))):
        if server.process() is None:
            raise UserError(f"{server.name}'s server ended while it started. {last_lines(server.log)}")
        if time.monotonic() > end:
            raise UserError(f"{server.name}'s server did not answer within {timeout:.0f} s. {last_lines(server.log)}")
        time.sleep(0.05)


def stop(process: psutil.Process, patience: float = 10.0) -> None:
    """End a process and all that it started: politely first, by force after `patience` seconds."""
    with suppress(psutil.NoSuchProcess):
        family = [process, *process.children(recursive=True)]
        _signal([process], force=False)
        psutil.wait_procs([process], timeout=patience)
        family += [child for member in family if member.is_running() for child in _children(member)]
        _signal(family[1:], force=False)
        _, left = psutil.wait_procs(family, timeout=2.0)
        _signal(left, force=True)
        psutil.wait_procs(left, timeout=5.0)


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log, as part of a message."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f"The end of {log}:\n" + "\n".join(f"  {line}" for line in lines[-count:])


def _signal(processes: Sequence[psutil.Process], force: bool) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill() if force else process.terminate()


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(process.children(recursive=True))
    return []
