"""Commands that the page starts: in the background, each in a session of its own, so that they outlive the page.

.convoy/jobs/ID.json  a `Job`: written once it is wanted, then by its own process alone, `python -m flows.jobs ID`
.convoy/jobs/ID.log   what the command says
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil
from pydantic import Field, ValidationError

from flows import logs
from flows.alone import alone
from flows.servers import processes
from flows.servers.processes import ROUNDING, born
from pipeline.contracts import Options
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.files import STATE, write_json
from pipeline.interrupts import EXIT_CODE
from pipeline.params import Named
from pipeline.registry import glances
from pipeline.registry.glances import Glance

HOME = STATE / "jobs"
AT_ONCE = 4
KEPT, KEPT_DAYS = 200, 30
"""More jobs than that, and older ones, are forgotten when the next one is started."""
BIRTH = 30.0
"""Seconds in which the process of a job may come up; one that has not said so by then never will."""
ID = r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}"

State = Literal["working", "done", "failed", "stopped", "lost"]


class Job(Options):
    """`ID.json`."""

    id: str = Field(pattern=f"^{ID}$")
    argv: list[str]
    """What follows `convoy`."""
    by: str = ""
    """The person who wanted it."""
    started: float
    """Seconds since 1970."""
    pid: int = 0
    """Of its process, which leads its session; 0 until that is up."""
    created: float = 0.0
    """When that process began, see `flows.servers.processes.born`: process ids are used again."""
    status: int | None = None
    """What the command ended with."""
    ended: float = 0.0

    @property
    def state(self) -> State:
        """How it stands: `stopped` is by request, `lost` is killed or gone with its machine."""
        if self.status is None:
            return "working" if self._lives() else "lost"
        return "done" if self.status == 0 else "stopped" if self.status == EXIT_CODE else "failed"

    def _lives(self) -> bool:
        if not self.pid:
            return time.time() < self.started + BIRTH
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid)
            return abs(born(found) - self.created) < ROUNDING and found.status() != psutil.STATUS_ZOMBIE
        return False


def start(project: Path, argv: Sequence[str], by: str = "") -> Job:
    """Start `convoy ARGV`; the very same one that is at work already is given instead.

    Args:
        project: its root, which is the current folder.
        argv: `verify RUN`, `rerun RUN`, `judge VERSION`, `schedule run NAME`, `schedule pause NAME` or
            `schedule resume NAME`; nothing else is started.
        by: who wants it.

    Raises:
        UserError: no such command, run, version or deployment, or too many are at work.
    """
    wanted = _checked(project, argv)
    (project / HOME).mkdir(parents=True, exist_ok=True)
    with alone(project / HOME / "lock", lambda _: None):
        known = listed(project)
        working = [job for job in known if job.state == "working"]
        if same := next((job for job in working if job.argv == wanted), None):
            return same
        if len(working) >= AT_ONCE:
            names = "; ".join(" ".join(job.argv) for job in working)
            raise UserError(f"{len(working)} commands are at work already ({names}). Wait until one ends, or stop one.")
        _forget_old(project, known)
        now = time.time()
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(4)}"
        job = Job(id=name, argv=wanted, by=by, started=now)
        _write(project, job)
        command, variables = ["-m", "flows.jobs", job.id], {**os.environ, "PYTHONUNBUFFERED": "1"}
        process, created = processes.start(command, variables, project, log(project, job.id))
    return job.model_copy(update={"pid": process.pid, "created": created})


def listed(project: Path) -> list[Job]:
    """Every job that is remembered, newest first."""
    found = (find(project, path.stem) for path in (project / HOME).glob("*.json"))
    return sorted((job for job in found if job), key=lambda job: (job.started, job.id), reverse=True)


def find(project: Path, name: str) -> Job | None:
    """The job of this id, if it is remembered."""
    if not re.fullmatch(ID, name):
        return None
    try:
        return Job.model_validate_json((project / HOME / f"{name}.json").read_bytes())
    except (OSError, ValidationError):
        return None


def stop(project: Path, name: str) -> None:
    """Ask a job to stop, as Ctrl-C in a terminal would: what is done is kept.

    Raises:
        UserError: it is not at work.
    """
    job = find(project, name)
    if job is None or job.state != "working":
        raise UserError(f"Job {name} is not at work any more." if job else f"No job {name!r} is remembered.")
    if not job.pid:
        raise UserError(f"Job {name} is just being started. Try again in a moment.")
    with suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGINT)  # also its stages, which keep a checkpoint


def log(project: Path, name: str) -> Path:
    """Where what a job says lies."""
    if not re.fullmatch(ID, name):
        raise ValueError(f"{name!r} is no id of a job")
    return project / HOME / f"{name}.log"


def log_tail(project: Path, name: str, offset: int) -> tuple[str, int]:
    """What a job has said since, and the offset to ask with the next time; see `flows.logs.tail`."""
    return logs.tail(log(project, name), offset) if find(project, name) else ("", 0)


def _checked(project: Path, argv: Sequence[str]) -> list[str]:
    """The command with whole and known names: nothing else that came over the wire reaches it."""
    match list(argv):
        case ["verify" | "rerun" as command, run]:
            return [command, _known(run).id]
        case ["judge", version]:
            found = _known(version)
            if not found.version:
                raise UserError(f"Run {found.id[:8]} has registered no model.")
            return ["judge", f"{found.model}/{found.version}"]
        case ["schedule", "run" | "pause" | "resume" as command, name]:
            from flows.schedule import deployments

            return ["schedule", command, deployments.find(project, name).name]
        case _:
            raise UserError(f"`convoy {' '.join(argv)[:100]}` is nothing that the page starts.")


def _known(name: str) -> Glance:
    found = glances.resolve(name, glances.read_all(), lambda: load(Named).name)
    if found is None:
        raise UserError(f"No run or version {name!r} is recorded here.")
    return found


def _forget_old(project: Path, known: Sequence[Job]) -> None:
    oldest = time.time() - KEPT_DAYS * 86400
    for number, job in enumerate(known, start=2):  # the new one is the first
        if (number > KEPT or job.started < oldest) and job.state != "working":
            log(project, job.id).unlink(missing_ok=True)
            (project / HOME / f"{job.id}.json").unlink(missing_ok=True)


def _write(project: Path, job: Job) -> None:
    write_json(project / HOME / f"{job.id}.json", job.model_dump(mode="json"))


def main(arguments: list[str]) -> int:
    """Run the command of a job, and note how it ends."""
    project = Path.cwd()
    job = find(project, arguments[0])
    if job is None:
        return 2
    # A handler, and not to ignore it: a command would inherit that, and could not be stopped.
    signal.signal(signal.SIGINT, lambda *_: None)
    job = job.model_copy(update={"pid": os.getpid(), "created": born(psutil.Process())})
    _write(project, job)
    process = subprocess.Popen([sys.executable, "-m", "flows.cli", *job.argv], stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    status = process.wait()
    status = EXIT_CODE if status == -signal.SIGINT else status
    _write(project, job.model_copy(update={"status": status, "ended": time.time()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
