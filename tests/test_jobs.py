"""Commands that the page starts: real processes, stopped, killed and counted; and what is refused before any begins."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest
from small_project import environment, git
from test_runs import made_record, run_id, stopped

from flows import jobs
from flows.jobs import Job
from flows.servers.processes import born
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.registry import runs

ROOT = Path(__file__).parents[1]
WAITS = "this run waits for it"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with six recorded runs and a deployment, in which no command comes far."""
    monkeypatch.chdir(tmp_path)
    for variable in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(variable, raising=False)
    for name in ("params.yaml", "dvc.yaml", "prefect.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".dvc").mkdir()
    git(tmp_path, "init", "-q")
    for number in range(1, 7):
        runs.write(made_record(run_id(number), version__version=str(number)))
    return tmp_path


@pytest.fixture
def busy(project: Path) -> Iterator[IO[str]]:
    """While this lock is held, every `convoy verify` says that it waits, and does."""
    with (project / ".convoy/housekeeping.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    for job in jobs.listed(project):
        if job.state == "working" and job.pid:
            os.killpg(job.pid, signal.SIGKILL)


def until(condition: Callable[[], object], patience: float = 240.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(project: Path, job: Job) -> Job:
    def now() -> Job:
        found = jobs.find(project, job.id)
        assert found
        return found

    until(lambda: now().state != "working")
    return now()


def said(project: Path, job: Job) -> str:
    return jobs.log_tail(project, job.id, 0)[0]


def test_a_command_runs_and_its_end_is_known(project: Path) -> None:
    job = jobs.start(project, ["schedule", "resume", "nightly"], by="ada")
    assert job.state == "working"
    assert born(psutil.Process(job.pid)) == pytest.approx(job.created, abs=1.5)
    done = ended(project, job)
    assert (done.state, done.status, done.by, done.pid) == ("done", 0, "ada", job.pid)
    assert done.ended >= done.started
    assert said(project, job) == "nightly is awake.\n"
    assert jobs.log_tail(project, job.id, len("nightly is awake.\n")) == ("", 18)
    assert "paused: true" not in (project / "prefect.yaml").read_text()
    stopped(run_id(9))
    failed = ended(project, jobs.start(project, ["verify", run_id(9)]))
    assert (failed.state, failed.status) == ("failed", 1)
    assert "has no record yet: it stopped short" in said(project, failed)
    assert [one.id for one in jobs.listed(project)] == [failed.id, done.id]


def test_names_are_whole_and_known_before_anything_begins(project: Path) -> None:
    checked = jobs._checked
    whole = run_id(1)
    assert checked(project, ["verify", whole[:4]]) == ["verify", whole]
    assert checked(project, ["rerun", made_record(whole).flow_run]) == ["rerun", whole]
    assert checked(project, ["judge", "digits/2"]) == ["judge", "digits/2"]
    assert checked(project, ["judge", run_id(3)]) == ["judge", "digits/3"]
    assert checked(project, ["schedule", "run", "nightly"]) == ["schedule", "run", "nightly"]
    stopped(run_id(9))
    with pytest.raises(UserError, match=r"^Run 00090000 has registered no model\.$"):
        checked(project, ["judge", run_id(9)])
    for name in ("../../etc/passwd", "--json", "-h", "", "; rm -rf /", "params.yaml", str(project), "f" * 32):
        with pytest.raises(UserError, match="No run or version .* is recorded here"):
            checked(project, ["verify", name])
        with pytest.raises(UserError, match=r"prefect\.yaml has no deployment"):
            checked(project, ["schedule", "run", name])
    for argv in ([], ["gc", "--yes"], ["verify"], ["verify", whole, "--json"], ["schedule", "remove", "nightly"]):
        with pytest.raises(UserError, match=re.escape(f"`convoy {' '.join(argv)}` is nothing that the page starts.")):
            jobs.start(project, argv)
    assert jobs.listed(project) == []


def test_four_at_once_the_same_one_once_and_each_can_be_stopped(project: Path, busy: IO[str]) -> None:  # noqa: ARG001
    begun = [jobs.start(project, ["verify", run_id(number)]) for number in (1, 2, 3, 4)]
    assert jobs.start(project, ["verify", run_id(2)]).id == begun[1].id
    with pytest.raises(
        UserError, match=r"^4 commands are at work already \(verify .*\)\. Wait until one ends, or stop"
    ):
        jobs.start(project, ["verify", run_id(5)])
    until(lambda: all(WAITS in said(project, job) for job in begun))
    jobs.stop(project, begun[0].id)
    done = ended(project, begun[0])
    assert (done.state, done.status) == ("stopped", 130)
    assert "Traceback" not in said(project, done)
    with pytest.raises(UserError, match="is not at work any more"):
        jobs.stop(project, begun[0].id)
    with pytest.raises(UserError, match=r"^No job '\.\./x' is remembered"):
        jobs.stop(project, "../x")
    assert jobs.start(project, ["verify", run_id(5)]).state == "working"
    os.killpg(begun[1].pid, signal.SIGKILL)
    lost = ended(project, begun[1])
    assert (lost.state, lost.status) == ("lost", None)


PAGE = """
import sys
from pathlib import Path
from flows import jobs
print(jobs.start(Path.cwd(), ["verify", sys.argv[1]]).id, flush=True)
"""


def test_a_job_outlives_the_page_that_started_it(project: Path, busy: IO[str]) -> None:  # noqa: ARG001
    page = subprocess.run(
        [sys.executable, "-c", PAGE, run_id(1)], cwd=project, env=environment(), capture_output=True, text=True
    )
    job = jobs.find(project, page.stdout.strip())
    assert job
    until(lambda: WAITS in said(project, job))
    assert job.state == "working"
    jobs.stop(project, job.id)
    assert ended(project, job).state == "stopped"


def test_what_is_left_of_a_job_that_never_came_up(project: Path) -> None:
    for age, state in ((1, "working"), (jobs.BIRTH + 1, "lost")):
        job = Job(id="20260101-000000-0000000a", argv=["verify", "x"], started=time.time() - age)
        assert job.state == state
    alien = psutil.Process()  # a process id that was used again
    job = job.model_copy(update={"pid": alien.pid, "created": born(alien) - 60})
    assert job.state == "lost"


def test_old_ones_are_forgotten_and_none_that_is_at_work(project: Path) -> None:
    now, mine = time.time(), psutil.Process()
    for number in range(210):
        name = f"20260101-000000-{number:08x}"
        job = Job(id=name, argv=["verify", "x"], started=now - number, status=0)
        if number == 209:
            job = job.model_copy(update={"pid": mine.pid, "created": born(mine), "status": None})
        if number == 5:
            job = job.model_copy(update={"started": now - 31 * 86400})
        write_json(project / jobs.HOME / f"{name}.json", job.model_dump(mode="json"))
        jobs.log(project, name).write_text("said")
    (project / jobs.HOME / "20260101-000000-ffffffff.json").write_text("{")  # cut short, or of another version
    ended(project, jobs.start(project, ["schedule", "pause", "nightly"]))
    left = jobs.listed(project)
    assert len(left) == jobs.KEPT + 1
    numbers = {int(job.id[-8:], 16) for job in left[1:]}
    assert numbers == {*range(200), 209} - {5}
    assert len(list((project / jobs.HOME).glob("*.log"))) == len(left)


@pytest.mark.parametrize("name", ["../x", "", "20260101-000000-0000000A", "20260101-000000-00000001.json", "/etc/x"])
def test_an_id_is_no_path(project: Path, name: str) -> None:
    assert jobs.find(project, name) is None
    assert jobs.log_tail(project, name, 0) == ("", 0)
    with pytest.raises(ValueError, match="no id of a job"):
        jobs.log(project, name)
