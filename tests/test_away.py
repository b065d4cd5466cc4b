"""Prefect's and MLflow's servers go away while a run trains: it does not wait, loses nothing, doubles nothing, ends."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from faulty_proxy import FaultyProxy, Mode
from small_project import convoy, environment, make, make_pictures

from flows.servers.prefect_rest import wired
from flows.servers.processes import running

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("CONVOY_ROUNDS", "2"))
EPOCHS = 40
WAS_AWAY = "was away when the run ended. What it has not heard is told by the next `convoy run`"
LATER = "Prefect now knows that flow run 'shades'"


class Scene:
    """A project with its servers up, and a proxy before each of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        servers = running(root)
        self.prefect, self.mlflow = FaultyProxy(servers["prefect"].port), FaultyProxy(servers["mlflow"].port)

    def variables(self) -> dict[str, str]:
        return {
            "PREFECT_API_URL": f"{self.prefect.url}/api",
            "PREFECT_API_AUTH_STRING": (self.root / ".convoy/prefect.auth").read_text().strip(),
            "MLFLOW_TRACKING_URI": self.mlflow.url,
            "CONVOY_MLFLOW_PATIENCE": "3",
        }

    def train(self, seed: int, **more: str) -> subprocess.Popen[str]:
        """A run that has come to its training."""
        command = ["-m", "flows.cli", "run", "--set", f"train.epochs={EPOCHS}", "--set", f"seed={seed}"]
        process = subprocess.Popen(
            [sys.executable, "-u", *command],
            cwd=self.root,
            env=environment(**self.variables() | more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout
        for line in process.stdout:
            if line.startswith("train: epoch   3/"):
                return process
        pytest.fail("it ended before it trained")

    def again(self, status: int = 0) -> str:
        return convoy(self.root, "run", status=status, **self.variables())

    def flow_run(self) -> tuple[UUID, str, str]:
        """The newest: its id, its state and that state's message."""
        (found,) = self._prefect(
            "select flow_run.id, state_name, message from flow_run "
            "join flow_run_state on state_id = flow_run_state.id order by flow_run.created desc limit 1"
        )
        return UUID(found[0]), found[1], found[2] or ""

    def artifacts(self, flow_run: UUID) -> set[str]:
        rows = self._prefect("select key from artifact where flow_run_id = ?", str(flow_run))
        assert len(rows) == len(set(rows))
        return {key for (key,) in rows if key}

    def mlflow_runs(self, seed: int) -> list[tuple[str, str]]:
        """Id and status of the runs with that seed."""
        query = "select run_uuid, status from runs join params using (run_uuid) where key = 'seed' and value = ?"
        return self._mlflow(query, str(seed))

    def steps(self, run: str) -> list[int]:
        rows = self._mlflow("select step from metrics where key = 'train/loss' and run_uuid = ? order by step", run)
        return [step for (step,) in rows]

    def _prefect(self, query: str, *values: str) -> list[tuple]:  # type: ignore[type-arg]
        return _ask(self.root / ".convoy/prefect.db", query, values)

    def _mlflow(self, query: str, *values: str) -> list[tuple]:  # type: ignore[type-arg]
        return _ask(self.root / ".convoy/mlflow.db", query, values)


def _ask(database: Path, query: str, values: tuple[str, ...]) -> list[tuple]:  # type: ignore[type-arg]
    with sqlite3.connect(database, timeout=120) as connection:
        return connection.execute(query, values).fetchall()


def ended(process: subprocess.Popen[str], status: int = 0) -> str:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == status, said
    assert "Traceback" not in said
    assert "ERROR" not in said
    return said


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("away")
    root = make(home / "project", make_pictures(home / "pictures"))
    convoy(root, "up")
    try:
        scene = Scene(root)
        with scene.prefect, scene.mlflow:
            yield scene
    finally:
        convoy(root, "down")
        assert running(root) == {}


@pytest.fixture(autouse=True)
def both_pass(scene: Scene) -> None:
    for proxy in (scene.prefect, scene.mlflow):
        proxy.switch(Mode.PASS)


def test_prefect_hangs_until_after_the_end(scene: Scene) -> None:
    process = scene.train(seed=1)
    scene.prefect.switch(Mode.HANG)
    said = ended(process)
    assert WAS_AWAY in said
    assert "model shades version 1 is the champion" in " ".join(said.split())
    flow_run, state, _ = scene.flow_run()
    assert state in ("Running", "Crashed")  # crashed, if it was silent for so long that the server concludes that
    assert scene.artifacts(flow_run) == set()
    ((run, status),) = scene.mlflow_runs(1)
    assert status == "FINISHED"
    assert scene.steps(run) == list(range(EPOCHS))
    scene.prefect.switch(Mode.PASS)
    said = scene.again()
    assert LATER in said
    assert "Nothing to do" in said
    assert scene.flow_run()[:2] == (flow_run, "Completed")
    assert scene.flow_run()[2].endswith("this was told later.")
    assert scene.artifacts(flow_run) == {"shades-scores", "shades-gate", "shades-worst-errors", "shades-augmented"}
    assert LATER not in scene.again()
    assert list((scene.root / ".convoy/untold").glob("*.json")) == []


def test_mlflow_fails_until_after_the_end(scene: Scene) -> None:
    process = scene.train(seed=2)
    scene.mlflow.switch(Mode.FAIL)
    said = ended(process, status=1)
    assert "MLflow is away; this waits for it 3 s at most." in said
    assert "MLflow does not take the metrics: " in said
    assert "Nothing is lost: start its server and run the same command again" in said
    ((run, status),) = scene.mlflow_runs(2)
    assert status == "RUNNING"
    scene.mlflow.switch(Mode.PASS)
    said = scene.again()
    assert "train: epoch" not in said
    assert scene.mlflow_runs(2) == [(run, "FINISHED")]
    assert scene.steps(run) == list(range(EPOCHS))


def test_both_refuse_and_come_back(scene: Scene) -> None:
    process = scene.train(seed=3)
    for proxy in (scene.prefect, scene.mlflow):
        proxy.switch(Mode.REFUSE)
    assert process.stdout
    next(line for line in process.stdout if line.startswith("train: kept"))
    for proxy in (scene.prefect, scene.mlflow):
        proxy.switch(Mode.PASS)
    said = ended(process)
    assert WAS_AWAY not in said
    assert scene.flow_run()[1] == "Completed"
    ((run, status),) = scene.mlflow_runs(3)
    assert status == "FINISHED"
    assert scene.steps(run) == list(range(EPOCHS))


def test_a_killed_run_is_shown_as_crashed_by_the_next(scene: Scene) -> None:
    process = scene.train(seed=4)
    with wired(scene.root, f"{scene.prefect.url}/api") as wire:  # else, on a slow machine, it sees it first
        assert wire
        for automation in wire.post("/automations/filter", {}):
            wire.delete(f"/automations/{automation['id']}")
    process.send_signal(signal.SIGKILL)
    process.wait(120)
    flow_run, state, _ = scene.flow_run()
    assert state == "Running"
    said = convoy(scene.root, "up")
    assert f"Prefect now knows that flow run 'shades' ({str(flow_run)[:8]}) ended: Crashed." in said
    _, state, message = scene.flow_run()
    assert (state, message) == (
        "Crashed",
        "Its process was killed, or its machine went down. `convoy run` goes on where it was.",
    )


def test_prefect_away_at_the_start_is_named(scene: Scene) -> None:
    scene.prefect.switch(Mode.REFUSE)
    said = convoy(scene.root, "run", "--set", "seed=5", status=1, **scene.variables())
    assert f"The Prefect server at {scene.prefect.url}/api does not answer. Start it, or unset PREFECT_API_URL" in said


@pytest.mark.skipif(
    int(os.environ.get("CONVOY_ROUNDS", "2")) < 10, reason="takes minutes; CONVOY_ROUNDS=10 asks for it"
)
@pytest.mark.parametrize("back", [True, False], ids=["back", "never"])
@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.HANG, Mode.FAIL])
@pytest.mark.parametrize("away", ["prefect", "mlflow"])
def test_every_way_to_be_away(scene: Scene, away: str, mode: Mode, back: bool) -> None:
    seed = 100 + 10 * list(Mode).index(mode) + 2 * (away == "mlflow") + back
    proxy = getattr(scene, away)
    process = scene.train(seed)
    proxy.switch(mode)
    since = time.monotonic()
    assert process.stdout
    next(line for line in process.stdout if line.startswith("train: kept"))
    assert time.monotonic() - since < 60  # it takes some 4 s where nothing is away
    if back:
        proxy.switch(Mode.PASS)
    said = ended(process, status=1 if away == "mlflow" and not back else 0)
    assert (WAS_AWAY in said) == (away == "prefect" and not back)
    proxy.switch(Mode.PASS)
    said = scene.again()
    assert "train: epoch" not in said
    ((run, status),) = scene.mlflow_runs(seed)
    assert status == "FINISHED"
    assert scene.steps(run) == list(range(EPOCHS))
    assert scene.flow_run()[1] == "Completed"


TOLD = """
import json, sys
from pathlib import Path
from flows import settings
settings.apply(Path.cwd())
from flows.worker import crashes, flow_runs, pool, untold
from flows.schedule.server import project_tag
from prefect.states import Running
from pipeline.registry import attempts
from pipeline.registry.attempts import Attempt, Finished
done = Finished(id="a" * 32, run="r", version="9", outcome="hold", champion=False, reasons=[])
with pool.connected(pool.address(Path.cwd())) as client:
    flow = client.create_flow_from_name("retrain")
    deployment = client.create_deployment(flow, "told")
    taken = client.create_flow_run_from_deployment(deployment).id
    assert flow_runs.claim(client, Path.cwd(), taken, "tester")
    client.set_flow_run_state(taken, Running(), force=True)
    attempt = Attempt(id="a" * 32, key="k", model="shades", started=1, flow_run=str(taken), finished=done)
    attempts._write(attempt)
    closed = []
    lines = crashes.sweep(client, Path.cwd(), None, closed.append)
    state = client.read_flow_run(taken).state
    print(json.dumps([lines, closed == [str(taken)], state.name, state.message]))
"""


def test_a_run_that_finished_is_not_run_again_by_the_worker(scene: Scene) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TOLD], cwd=scene.root, env=environment(), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    lines, closed, state, message = json.loads(done.stdout)
    assert (closed, state) == (True, "Completed")
    assert message.startswith("Run aaaaaaaa, version 9 of shades: hold.")
    assert lines[0].endswith("had finished; Prefect knows it now.")


DRAIN = """
import sys, time
from pipeline.registry import tracking
start = time.monotonic()
try:
    tracking.connect()
except tracking.Away as error:
    print(f"{time.monotonic() - start:.0f}", error)
"""


def test_a_mlflow_that_hangs_costs_no_minutes(scene: Scene) -> None:
    scene.mlflow.switch(Mode.HANG)
    variables = environment(MLFLOW_TRACKING_URI=scene.mlflow.url, MLFLOW_HTTP_REQUEST_TIMEOUT="1")
    done = subprocess.run(
        [sys.executable, "-c", DRAIN], cwd=scene.root, env=variables, capture_output=True, text=True, timeout=240
    )
    seconds, words = done.stdout.split(maxsplit=1)
    assert words.startswith(f"MLflow at {scene.mlflow.url} does not answer: "), done.stderr
    assert int(seconds) < 60
