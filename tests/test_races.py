"""Two retrainings at the same moment, also when the first is killed: never two at once, and the second soon begins.

CONVOY_ROUNDS sets how many races there are; each takes half a minute.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from small_project import environment, make, make_pictures

from flows.alone import holder, of_device

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("CONVOY_ROUNDS", "1"))
PATIENCE = 900
WAITS = "Another run has the processor of this machine (process"


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two projects of one user on one machine."""
    home = tmp_path_factory.mktemp("races")
    pictures = make_pictures(home / "pictures")
    return [make(home / name, pictures) for name in ("one", "two")]


def started(project: Path, seed: int) -> subprocess.Popen[bytes]:
    log = project.parent / f"{project.name}-{seed}.log"
    command = [sys.executable, "-u", "-m", "flows.cli", "run", "--set", f"seed={seed}", "--set", "train.epochs=30"]
    with log.open("wb") as output:
        return subprocess.Popen(command, cwd=project, env=environment(), stdout=output, stderr=output)


def logs(projects: list[Path], seed: int) -> list[str]:
    """What each has said."""
    return [(project.parent / f"{project.name}-{seed}.log").read_text() for project in projects]


def stages(projects: list[Path]) -> dict[int, str]:
    """The processes that run a stage of one of these projects."""
    found = {}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if words[1:3] == ["-m", "pipeline"] and Path(process.cwd()) in projects:
                found[process.pid] = f"{process.cwd()} {words[3]}"
        except (psutil.Error, OSError):
            continue
    return found


def at_work(projects: list[Path]) -> set[str]:
    """The stages that compute; one that waits for another's end does not."""
    lock = of_device("cpu").with_suffix(".stage")
    now = lock.read_text().strip() if lock.exists() and holder(lock) else ""
    return {words for pid, words in stages(projects).items() if str(pid) == now}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_never_two_at_once(projects: list[Path], number: int) -> None:
    killed = number % 2 == 0
    runs = [started(project, number) for project in projects]
    lock = of_device("cpu")
    end = time.monotonic() + PATIENCE
    first: int | None = None
    until: float | None = None
    waited = None
    while any(run.poll() is None for run in runs):
        assert time.monotonic() < end
        at = {words.rpartition(" ")[0] for words in stages(projects).values()}
        whose = holder(lock)
        pid = int(whose.split()[1].rstrip(",")) if whose and whose.startswith("process") else None
        late = any(stage in words for words in at_work(projects) for stage in ("train", "evaluate"))
        if first is None and pid and late and any(WAITS in log for log in logs(projects, number)):
            first = pid
            if killed:
                os.kill(first, signal.SIGKILL)
                until = time.monotonic()
        if until and waited is None and pid not in (None, first):
            waited = time.monotonic() - until
        if not until:  # after a kill the orphan ends while the next begins: the lock of the stages keeps them apart
            assert len(at) <= 1, stages(projects)
        time.sleep(0.05)
    ends = sorted(run.returncode for run in runs)
    said = logs(projects, number)
    assert ends == ([-signal.SIGKILL, 0] if killed else [0, 0]), said
    assert sum(WAITS in log for log in said) == 1, said
    if killed:
        assert waited is not None
        assert waited < 60
