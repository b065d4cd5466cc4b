"""`kill -9` of the worker, the flow and its stages, for real and at random: every round ends as if nobody had killed.

CONVOY_ROUNDS sets how many rounds there are; each takes about a minute.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from small_project import convoy, environment, git, make, make_pictures

from flows import settings
from flows.servers.processes import running
from flows.worker import pool

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("CONVOY_ROUNDS", "1"))
EPOCHS = 40
PATIENCE = 900


class Scene:
    """A project with its servers up and a worker that is started again whenever it dies, as systemd does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.worker: subprocess.Popen[bytes] | None = None

    def start_worker(self) -> None:
        with (self.root.parent / "worker.log").open("ab") as log:
            command = [sys.executable, "-u", "-m", "flows.cli", "worker", "--name", "tester"]
            self.worker = subprocess.Popen(command, cwd=self.root, env=environment(), stdout=log, stderr=log)

    def log(self) -> str:
        return (self.root.parent / "worker.log").read_text()

    def client(self):  # type: ignore[no-untyped-def]
        from prefect.client.orchestration import SyncPrefectClient

        return SyncPrefectClient(pool.address(self.root), auth_string=settings.password(self.root))

    def due(self, *assignments: str) -> UUID:
        with self.client() as client:
            flow = client.create_flow_from_name("retrain")
            deployment = client.create_deployment(flow, "test", work_pool_name="convoy")
            request = {"branch": "main", "set": list(assignments)}
            found: UUID = client.create_flow_run_from_deployment(deployment, parameters={"request": request}).id
            return found

    def state(self, flow_run: UUID) -> str:
        with self.client() as client:
            return str(client.read_flow_run(flow_run).state_name)

    def processes(self) -> dict[str, list[psutil.Process]]:
        """What works for the project, by its kind."""
        found: dict[str, list[psutil.Process]] = {"flow": [], "stage": [], "worker": []}
        for process in psutil.process_iter():
            try:
                words = " ".join(process.cmdline())
                if not Path(process.cwd()).is_relative_to(self.root):
                    continue
            except (psutil.Error, OSError):
                continue
            for kind, sign in (("flow", "flows.scheduled"), ("stage", "-m pipeline"), ("worker", "flows.cli worker")):
                if sign in words:
                    found[kind].append(process)
        return found

    def mlflow_runs(self, seed: int):  # type: ignore[no-untyped-def]
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.root}/.convoy/mlflow.db")
        experiment = client.get_experiment_by_name("shades")
        return client, client.search_runs([experiment.experiment_id], f"params.seed = '{seed}'")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("killed")
    scene = Scene(make(home / "project", make_pictures(home / "pictures")))
    convoy(scene.root, "up")
    try:
        scene.start_worker()
        yield scene
    finally:
        if scene.worker:
            scene.worker.terminate()
            scene.worker.wait(240)
        convoy(scene.root, "down")
        assert running(scene.root) == {}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_run_ends_right_whatever_is_killed(scene: Scene, number: int) -> None:
    dice = random.Random(number)
    seed = number + 1
    flow_run = scene.due(f"seed={seed}", f"train.epochs={EPOCHS}")
    kills = []
    end = time.monotonic() + PATIENCE
    until = time.monotonic() + dice.uniform(2, 25)
    while scene.state(flow_run) != "Completed":
        assert time.monotonic() < end, f"{kills} {scene.state(flow_run)}\n{scene.log()}"
        if len(kills) < 2 and time.monotonic() > until:
            kills.append(_kill(scene, dice))
            until = time.monotonic() + dice.uniform(2, 25)
        if scene.worker is None or scene.worker.poll() is not None:
            scene.start_worker()
        time.sleep(0.2)
    client, found = scene.mlflow_runs(seed)
    assert [run.info.status for run in found] == ["FINISHED"], kills
    steps = [metric.step for metric in client.get_metric_history(found[0].info.run_id, "train/loss")]
    assert sorted(steps) == list(range(EPOCHS)), kills  # one step an epoch, none twice
    _wait_until_clean(scene, kills)
    assert "identical." in convoy(scene.root, "verify", found[0].info.run_id), kills


def _kill(scene: Scene, dice: random.Random) -> str:
    victims = dice.choice((["worker"], ["flow"], ["stage"], ["worker", "flow"], ["worker", "flow", "stage"]))
    there = scene.processes()
    for kind in victims:
        for process in there[kind]:
            with suppress(psutil.NoSuchProcess):  # it may have ended with the one before
                process.send_signal(signal.SIGKILL)
    if "worker" in victims and scene.worker:
        scene.worker.wait(60)
    return f"{victims} of { ({kind: len(those) for kind, those in there.items()}) }"


def _wait_until_clean(scene: Scene, kills: list[str]) -> None:
    """Nothing that the run needed is left: no process, lock, worktree or leftover of git."""
    end = time.monotonic() + 240
    while True:
        left = [
            *(scene.root / ".convoy/worktrees").glob("*"),
            *(scene.root / ".convoy/at-work").glob("*"),
            *(scene.root / ".convoy/flow-runs").glob("*-*"),
            *(process for kind in ("flow", "stage") for process in scene.processes()[kind]),
        ]
        if not left:
            break
        assert time.monotonic() < end, f"{kills} {left}\n{scene.log()}"
        time.sleep(0.5)
    assert len(git(scene.root, "worktree", "list").splitlines()) == 1
