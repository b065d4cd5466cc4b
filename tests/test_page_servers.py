"""States and scores that the page shows, from real servers of Prefect and MLflow."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import databases
import httpx
import page_project
import pytest

from dashboard.addresses import Addresses
from dashboard.servers import FlowState, Servers
from flows import settings
from flows.servers import dashboards
from flows.servers.prefect_rest import Wire
from flows.servers.processes import Server

pytestmark = pytest.mark.slow
MOMENT = int(time.time() * 1000)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Server]]]:
    """A project with its servers, the page among them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_", "CONVOY_PAGE"))]:
            patch.delenv(name)
        patch.setenv("PYTHONPATH", str(page_project.ROOT))
        root = page_project.make(tmp_path_factory.mktemp("up") / "project", 4).root
        databases.give(root)
        try:
            yield root, dashboards.up(root)
        finally:
            dashboards.down(root)


def flow_run(root: Path, prefect: Server, kind: str, name: str) -> str:
    """A flow run in that state."""
    who, _, word = settings.password(root).partition(":")
    with httpx.Client(base_url=f"{prefect.url}/api", auth=(who, word), timeout=120) as client:
        wire = Wire(client)
        flow = wire.post("/flows/", {"name": "retrain"})["id"]
        run = wire.post("/flow_runs/", {"flow_id": flow})["id"]
        wire.post(f"/flow_runs/{run}/set_state", {"state": {"type": kind, "name": name}, "force": True})
    return str(run)


def mlflow_run(mlflow: Server, accuracy: float) -> str:
    """A run with that test score."""
    with httpx.Client(base_url=f"{mlflow.url}/api/2.0/mlflow", timeout=120) as client:
        name = {"name": f"parts {accuracy}"}
        experiment = client.post("/experiments/create", json=name).raise_for_status().json()["experiment_id"]
        made = client.post("/runs/create", json={"experiment_id": experiment, "start_time": MOMENT}).raise_for_status()
        run = made.json()["run"]["info"]["run_id"]
        for key, value in {"test/accuracy": accuracy, "test/accuracy_low": accuracy - 0.1, "train/loss": 3.0}.items():
            metric = {"run_id": run, "key": key, "value": value, "timestamp": MOMENT, "step": 0}
            client.post("/runs/log-metric", json=metric).raise_for_status()
    return str(run)


def test_they_are_asked_for_what_is_looked_at(up: tuple[Path, dict[str, Server]]) -> None:
    root, servers = up
    flow, run = flow_run(root, servers["prefect"], "PAUSED", "Suspended"), mlflow_run(servers["mlflow"], 0.75)
    asking = Servers(Addresses(root))
    asking.start()
    end = time.monotonic() + 240
    while True:
        seen = asking.look([flow, "00000000-0000-4000-8000-000000000000"], [run, "f" * 32])
        if seen.states and seen.scores and not seen.away:
            break
        assert time.monotonic() < end, seen
        time.sleep(0.1)
    assert seen.states == {flow: FlowState("PAUSED", "Suspended")}
    assert seen.scores == {run: {"accuracy": 0.75, "accuracy_low": 0.65}}
    assert seen.away == ()
    asking.stop()


def test_the_page_shows_them_and_says_where_mlflow_and_the_record_differ(up: tuple[Path, dict[str, Server]]) -> None:
    root, servers = up
    flow, run = flow_run(root, servers["prefect"], "PAUSED", "Suspended"), mlflow_run(servers["mlflow"], 0.1234)
    path = max((root / ".convoy/runs").glob("*/glance.json"))
    glance = json.loads(path.read_text()) | {"flow_run": flow, "mlflow_run": run}
    copied = path.parent.with_name("e" * 32)
    shutil.copytree(path.parent, copied)
    (copied / "glance.json").write_text(json.dumps({**glance, "id": copied.name}))
    with httpx.Client(base_url=servers["page"].url, timeout=120) as page:
        end = time.monotonic() + 240
        while not all(words in (text := page.get("/runs").text) for words in ("0.1234", "waits for a person")):
            assert time.monotonic() < end, text
            time.sleep(0.2)
        assert "MLflow holds another score than the record of this run" in text
        text = page.get(f"/runs/{copied.name}").text
        assert f'href="{servers["prefect"].url}/runs/flow-run/{flow}"' in text
        assert f'href="{servers["mlflow"].url}/#/runs/{run}"' in text
