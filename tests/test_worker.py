"""The worker for real: a Prefect server, git worktrees, processes that are killed. Only the training is a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import databases
import psutil
import pytest
from ports import lasting_port

from flows import settings
from flows.schedule.server import project_tag
from flows.servers import dashboards as servers
from flows.worker import flow_runs
from flows.worker.heartbeat import EVENT, MESSAGE

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[1]
STEPS = 8
PATIENCE = 240.0
"""Seconds for whatever another process does; a busy machine takes minutes for what an idle one does in seconds."""
STAND_IN = f"""
    import os, signal, sys, threading, time
    from pathlib import Path
    from uuid import UUID

    def end_with(parent):
        while os.getppid() == parent:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    def interrupt(*_):
        raise KeyboardInterrupt

    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    signal.signal(signal.SIGTERM, interrupt)

    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.flow_engine import run_flow
    from flows.worker.flow_runs import held
    from flows.worker.heartbeat import beating

    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(UUID(sys.argv[1]))

    @flow(name="retrain", persist_result=False)
    def retrain(request):
        with beating(flow_run.id):
            steps = Path("steps")  # the checkpoint
            for step in range(len(steps.read_text().split()) if steps.exists() else 0, {STEPS}):
                with steps.open("a") as file:
                    file.write(f"{{step}}\\n")
                time.sleep(0.1)
                if "do=die" in request["set"]:
                    os.kill(os.getpid(), signal.SIGKILL)
                while "do=hang" in request["set"] and not (project / "go").exists():
                    time.sleep(0.1)
            (project / f"done-{{flow_run.id}}").write_text(steps.read_text())

    project = Path(".convoy/project").resolve()
    try:
        with held(project, flow_run.id):
            run_flow(retrain, flow_run=flow_run)
    except KeyboardInterrupt:
        sys.exit(130)
"""
FLOWS = """
    import os, sys, time
    from pathlib import Path
    from flows import settings

    settings.apply(Path(sys.argv[1]))
    from prefect import flow
    from prefect.runtime import flow_run
    from flows.worker.heartbeat import beating
    from flows.servers.prefect_server import Prefect

    @flow(persist_result=False, flow_run_name=sys.argv[2])
    def lives_for(seconds):
        with beating(flow_run.id):
            print(flow_run.id, flush=True)
            time.sleep(seconds)

    with Prefect(sys.argv[3]).client():
        os.environ["PREFECT_API_URL"] = sys.argv[3]
        lives_for(float(sys.argv[4]))
"""


class Scene:
    """A project in git whose newest commit holds the stand-in, with its servers up."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "flows").mkdir()
        (root / "flows" / "__init__.py").write_text(f"__path__.append({str(REPOSITORY / 'flows')!r})\n")
        (root / "flows" / "scheduled.py").write_text(textwrap.dedent(STAND_IN))
        (root / ".dvc").mkdir()
        (root / ".gitignore").write_text(".convoy/\n.dvc/config.local\n")
        for name in ("dvc.yaml", "params.yaml", ".dvc/config"):
            (root / name).touch()
        for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "begin"]):
            identity = ["-c", "user.name=tester", "-c", "user.email=tester@localhost"]
            subprocess.run(["git", *identity, *command], cwd=root, check=True)
        self.api = servers.up(root, lambda _: None)["prefect"].url + "/api"
        self.workers: list[subprocess.Popen[bytes]] = []

    def client(self):  # type: ignore[no-untyped-def]
        from prefect.client.orchestration import SyncPrefectClient

        return SyncPrefectClient(self.api, auth_string=settings.password(self.root))

    def start_worker(self) -> subprocess.Popen[bytes]:
        # -P: the worker is the repository's; what it starts in a worktree is the commit's.
        with (self.root / "worker.log").open("ab") as log:
            command = [sys.executable, "-P", "-m", "flows.cli", "worker", "--name", "tester"]
            worker = subprocess.Popen(command, cwd=self.root, stdout=log, stderr=log)
        self.workers.append(worker)
        return worker

    def due(self, *assignments: str, branch: str = "main") -> UUID:
        """A flow run that is due now."""
        with self.client() as client:
            flow = client.create_flow_from_name("retrain")
            deployment = client.create_deployment(flow, "test", work_pool_name="convoy")
            request = {"branch": branch, "set": list(assignments)}
            found: UUID = client.create_flow_run_from_deployment(deployment, parameters={"request": request}).id
            return found

    def states(self, flow_run_id: UUID) -> list[tuple[str, str]]:
        """Names and messages of all states so far, in their order; Late, of a busy machine, is left out."""
        with self.client() as client:
            states = sorted(client.read_flow_run_states(flow_run_id), key=lambda state: state.timestamp)
            return [(state.name, state.message or "") for state in states if state.name != "Late"]

    def has_beaten(self, flow_run_id: str) -> bool:
        """Whether the server has heard that this flow run lives."""
        wanted = {"event": {"name": [EVENT]}, "resource": {"id": [f"prefect.flow-run.{flow_run_id}"]}}
        with self.client() as client:
            return bool(client.request("POST", "/events/filter", json={"filter": wanted}).json()["events"])

    def reaches(self, flow_run_id: UUID, name: str) -> list[tuple[str, str]]:
        """The states once the last one has that name."""
        until(lambda: self.states(flow_run_id)[-1][0] == name, lambda: self.log() + str(self.states(flow_run_id)))
        return self.states(flow_run_id)

    def process(self, flow_run_id: UUID) -> psutil.Process:
        """The process of the flow run, once it has begun to train."""
        until(lambda: (self.tree(flow_run_id) / "steps").exists(), self.log)
        (found,) = [
            process
            for process in psutil.process_iter(["cmdline"])
            if str(flow_run_id) in (process.info["cmdline"] or [])
        ]
        return found

    def tree(self, flow_run_id: UUID) -> Path:
        return self.root / ".convoy" / "worktrees" / str(flow_run_id)

    def done(self, flow_run_id: UUID) -> list[int]:
        """The steps of a run that has finished."""
        return [int(step) for step in (self.root / f"done-{flow_run_id}").read_text().split()]

    def nothing_left(self, flow_run_id: UUID) -> bool:
        """Whether neither a worktree nor a record of the flow run is left, shortly after its end."""
        until(lambda: not self.tree(flow_run_id).exists(), self.log)
        until(lambda: not list((self.root / ".convoy" / "flow-runs").glob(f"{flow_run_id}*")), self.log)
        return True

    def log(self) -> str:
        return (self.root / "worker.log").read_text()


def until(holds: Callable[[], bool], explain: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, explain()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_"))]:
            patch.delenv(name)
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        root = tmp_path_factory.mktemp("scene")
        databases.give(root)
        for name, value in settings.environment(root).items():
            patch.setenv(name, value)
        patch.setattr(servers, "PREFECT_PORT", lasting_port())
        scene = Scene(root)
        try:
            yield scene
        finally:
            for worker in scene.workers:
                worker.terminate()
                worker.wait(PATIENCE)
            servers.down(root, lambda _: None)


class Life(NamedTuple):
    """A flow started by hand, without a worker."""

    process: subprocess.Popen[str]
    began: float


@pytest.fixture(scope="module")
def lives(scene: Scene) -> Iterator[dict[str, Life]]:
    """One flow shorter than a heartbeat, one of three, one that is killed; they live beside the other tests."""
    found = {}
    for name, seconds in (("short", 2), ("long", 22), ("killed", 600)):
        command = [sys.executable, "-c", textwrap.dedent(FLOWS), str(scene.root), name, scene.api, str(seconds)]
        found[name] = Life(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY), time.monotonic()
        )
    stdout = found["killed"].process.stdout
    assert stdout is not None
    killed = stdout.readline().strip()
    until(lambda: scene.has_beaten(killed), lambda: f"no beat of {killed!r}")
    found["killed"].process.kill()
    yield found
    for life in found.values():
        life.process.kill()
        life.process.communicate()


def test_a_due_run_is_done_in_a_worktree_that_goes_with_it(scene: Scene, lives: dict[str, Life]) -> None:
    scene.start_worker()
    until(lambda: "serves the pool" in scene.log(), scene.log)
    flow_run = scene.due()
    states = scene.reaches(flow_run, "Completed")
    assert [name for name, _ in states] == ["Scheduled", "Pending", "Running", "Completed"]
    assert scene.done(flow_run) == list(range(STEPS))
    assert scene.nothing_left(flow_run)
    with scene.client() as client:
        (shown,) = client.read_workers_for_work_pool("convoy")
        assert (shown.name, shown.status) == ("tester", "ONLINE")


def test_a_killed_process_is_shown_as_crashed_at_once_and_goes_on(scene: Scene) -> None:
    flow_run = scene.due("do=hang")
    scene.process(flow_run).kill()
    until(lambda: "Crashed" in dict(scene.states(flow_run)), scene.log)
    (scene.root / "go").touch()
    states = scene.reaches(flow_run, "Completed")
    (scene.root / "go").unlink()
    assert states[3:5] == [
        ("Crashed", "Its process was ended by signal SIGKILL. The system kills so when memory runs out."),
        ("AwaitingRetry", "Its process died; it goes on where it was (time 1 of 3)."),
    ]
    assert scene.done(flow_run) == list(range(STEPS))
    assert scene.nothing_left(flow_run)


def test_a_worker_that_is_killed_takes_its_run_along_and_the_next_one_goes_on(scene: Scene) -> None:
    flow_run = scene.due("do=hang")
    process = scene.process(flow_run)
    scene.workers[-1].kill()
    scene.workers[-1].wait()
    process.wait(PATIENCE)  # an orphan stops by itself
    scene.start_worker()
    scene.reaches(flow_run, "Running")
    (scene.root / "go").touch()
    states = scene.reaches(flow_run, "Completed")
    (scene.root / "go").unlink()
    assert [name for name, _ in states].count("AwaitingRetry") == 1
    assert scene.done(flow_run) == list(range(STEPS))
    assert scene.nothing_left(flow_run)


def test_a_worker_that_is_stopped_puts_its_run_back(scene: Scene) -> None:
    flow_run = scene.due("do=hang")
    scene.process(flow_run)
    scene.workers[-1].terminate()
    assert scene.workers[-1].wait(PATIENCE) == 0
    assert scene.states(flow_run)[-1] == ("AwaitingRetry", "Its worker was stopped; the next one goes on with it.")
    assert scene.log().endswith("The worker has ended.\n")
    (scene.root / "go").touch()
    scene.start_worker()
    scene.reaches(flow_run, "Completed")
    (scene.root / "go").unlink()
    assert scene.done(flow_run) == list(range(STEPS))
    assert scene.nothing_left(flow_run)


def test_a_run_that_lives_takes_back_that_it_is_dead_and_hears_that_it_is_cancelled(scene: Scene) -> None:
    from prefect.states import Cancelling, Crashed

    flow_run = scene.due("do=hang")
    process = scene.process(flow_run)
    with scene.client() as client:
        client.set_flow_run_state(flow_run, Crashed(message=MESSAGE), force=True)
        assert scene.reaches(flow_run, "Running")[-1][1].startswith("It lives")
        client.set_flow_run_state(flow_run, Cancelling())
    assert scene.reaches(flow_run, "Cancelled")[-1][1] == "Stopped as asked; what is done is kept."
    assert not process.is_running()
    assert scene.nothing_left(flow_run)


def test_a_run_that_always_dies_stays_crashed(scene: Scene) -> None:
    flow_run = scene.due("do=die")
    flow_runs.remember(scene.root, flow_run, flow_runs.Taken(resumed=2))
    until(lambda: "died 4 times" in scene.log(), scene.log)
    states = scene.states(flow_run)
    assert [name for name, _ in states].count("Running") == 2  # it was at its third time, and got one more
    assert states[-1] == (
        "Crashed",
        "Its process was ended by signal SIGKILL. The system kills so when memory runs out. That was time 4: it is not "
        "started again by itself. Retry on this page starts it once you have found the reason.",
    )
    assert scene.nothing_left(flow_run)


def test_a_branch_that_is_not_there_is_told_on_prefects_page_and_to_people(scene: Scene) -> None:
    whom = 'name: x\nnotify: {"on": [failure], webhook: "http://127.0.0.1:9/"}\n'  # where nobody listens
    (scene.root / "params.yaml").write_text(whom)
    flow_run = scene.due(branch="none-such")
    assert scene.reaches(flow_run, "Failed")[-1][1].startswith("git knows no commit 'none-such' here.")
    until(lambda: "Not notified: " in scene.log(), scene.log)
    (scene.root / "params.yaml").write_text("")
    flow_run = scene.due(branch="--upload-pack=evil")
    message = scene.reaches(flow_run, "Failed")[-1][1]
    assert message.startswith("The parameter `request` of this run is wrong. branch: ")
    assert scene.nothing_left(flow_run)


def test_what_another_machine_has_taken_is_left_alone(scene: Scene, tmp_path: Path) -> None:
    from prefect.states import Pending

    from flows.worker.crashes import sweep

    with scene.client() as client:
        flow = client.create_flow_from_name("elsewhere")
        deployment = client.create_deployment(flow, "elsewhere")
        flow_run = client.create_flow_run_from_deployment(deployment).id
        client.set_flow_run_state(flow_run, Pending(message="Taken by worker other, project-00000000."))
        flow_runs.remember(tmp_path, flow_run, flow_runs.Taken())  # ours once; we came back when it was another's
        closed: list[str] = []
        assert sweep(client, tmp_path, None, closed.append) == []
    assert closed == [str(flow_run)]
    assert flow_runs.remembered(tmp_path) == []
    assert scene.states(flow_run)[-1] == ("Pending", "Taken by worker other, project-00000000.")


def test_what_a_later_run_does_as_well_is_called_off_but_not_what_has_begun(scene: Scene) -> None:
    from prefect.states import Scheduled

    from flows.worker.due import belongs_here, called_off, request_of

    now = datetime.now(UTC)
    with scene.client() as client:
        flow = client.create_flow_from_name("elsewhere")
        deployment = client.create_deployment(flow, "twice", parameters={"request": {"branch": "main"}})
        times = [now - timedelta(hours=2), now - timedelta(hours=1)]
        older, newer = [
            client.create_flow_run_from_deployment(deployment, state=Scheduled(scheduled_time=time)) for time in times
        ]
        skip = called_off(client, older, request_of(older), now)
        assert skip is not None and skip.outcome == "Superseded"
        assert called_off(client, newer, request_of(newer), now) is None
        begun = older.model_copy(update={"run_count": 1})
        assert called_off(client, begun, request_of(begun), now) is None
    assert belongs_here(scene.root, older)
    assert belongs_here(scene.root, older.model_copy(update={"tags": [project_tag(scene.root)]}))
    assert not belongs_here(scene.root, older.model_copy(update={"tags": ["project-00000000"]}))


def test_a_flow_whose_process_is_gone_is_shown_as_crashed_and_no_other(scene: Scene, lives: dict[str, Life]) -> None:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    def state(name: str) -> tuple[str, str | None]:
        named = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
        with scene.client() as client:
            (found,) = client.read_flow_runs(flow_run_filter=named)
            return found.state.name, found.state.message

    until(lambda: state("killed") == ("Crashed", MESSAGE), lambda: str(state("killed")))
    assert lives["long"].process.wait(PATIENCE) == 0
    time.sleep(max(0, lives["long"].began + 64 - time.monotonic()))  # 36 s after its last beat
    assert state("short") == state("long") == ("Completed", None)


def test_a_server_that_is_away_disturbs_nobody(scene: Scene) -> None:
    flow_run = scene.due("do=hang")
    process = scene.process(flow_run)
    server = servers.running(scene.root)["prefect"].process()
    assert server is not None
    server.kill()
    server.wait(PATIENCE)
    until(lambda: "No Prefect server of this project runs" in scene.log(), scene.log)
    assert process.is_running()
    servers.up(scene.root, lambda _: None)
    (scene.root / "go").touch()
    scene.reaches(flow_run, "Completed")
    (scene.root / "go").unlink()
    assert scene.done(flow_run) == list(range(STEPS))
    assert scene.log().count("No Prefect server of this project runs") == 1
    assert scene.nothing_left(flow_run)
