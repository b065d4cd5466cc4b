"""How a run ends that does not finish: in words, everywhere the same, and with what is to be done next."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from small_project import convoy, make, make_pictures

from pipeline.failpoints import VARIABLE, TrainingPoint

DIED = "train: its process ended by signal SIGKILL (the system kills so when memory runs out)."
SECRET = {"CONVOY_WEBHOOK_SECRET": "key"}


class Receiver:
    """Takes notices on loopback."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("endings")
    return make(home / "project", make_pictures(home / "pictures"))


def words(project: Path, *arguments: str) -> str:
    """What a command says, however its lines are broken."""
    return " ".join(convoy(project, *arguments).split())


@pytest.mark.slow
def test_a_stage_that_dies_again_ends_the_run_in_one_sentence_and_somebody_is_told(project, receiver) -> None:
    point = SECRET | {VARIABLE: str(TrainingPoint.EPOCH_NOTED.value)}
    notify = f"notify={{on: [failure], webhook: '{receiver.address}'}}"
    said = convoy(project, "run", "--set", notify, status=1, **point).strip().splitlines()
    assert said[-1] == f"{DIED} `convoy run` goes on from what is done."
    assert said.count(f"{DIED} Trying again (1 of 1).") == 1
    assert not any(word in line for line in said for word in ("Error:", "deployment_id", 'File "'))
    (notice,) = receiver.got
    assert f"a retraining failed: {DIED}" in json.dumps(notice)
    (run,) = json.loads(convoy(project, "runs", "--json"))
    assert (run["state"], run["mistake"]) == ("stopped", False)
    assert run["reason"].startswith(DIED)
    assert "`convoy run` goes on with it if nothing has changed" in words(project, "status")
    assert "is the champion" in convoy(project, "run", **SECRET)


@pytest.mark.slow
def test_a_run_that_diverged_says_so_everywhere_once_and_what_to_change(project, receiver) -> None:
    said = convoy(project, "run", "--set", "optimizer.lr=1e30", status=1, **SECRET)
    assert said.count("train: diverged in epoch 2, step 1") == 1
    assert said.strip().splitlines()[-1].startswith("Lower optimizer.lr (it is 1e30)")
    assert "Lower optimizer.lr (it is 1e30)" in json.dumps(receiver.got[-1])
    run = json.loads(convoy(project, "runs", "--json"))[0]
    assert run["mistake"]
    assert run["reason"] in said
    assert "train: diverged in epoch 2, step 1" in words(project, "runs")
    shown = words(project, "show", run["id"])
    assert "train: diverged in epoch 2, step 1" in shown and "Lower optimizer.lr (it is 1e30)" in shown
    assert "change what it says, then `convoy run`" in shown and "goes on with it" not in shown
    status = words(project, "status")
    assert "stopped short: train: diverged in epoch 2" in status and "goes on with it" not in status
    assert f"run {run['id'][:8]} began later and stopped short" in words(project, "show", "latest")
    attempt = json.loads((project / f".convoy/runs/{run['id']}/attempt.json").read_text())
    assert (project / f".convoy/train/{attempt['training']}/diverged/step.json").exists()
    log = project / f".convoy/logs/runs/{attempt['flow_run']}.log"
    assert log.read_text().count("train: diverged in epoch 2, step 1") == 1


@pytest.mark.parametrize(("deployment", "notices"), [(None, 1), (uuid4(), 0)])
def test_only_a_run_that_no_worker_takes_up_again_is_told_of_when_its_stage_died(monkeypatch, deployment, notices):
    from prefect.client.schemas.objects import FlowRun
    from prefect.context import FlowRunContext

    from flows import retrain
    from flows.stage import Died

    def dies(*_: Any) -> None:
        raise Died(DIED)

    told: list[str] = []
    monkeypatch.setattr(retrain, "load", lambda _: SimpleNamespace())
    monkeypatch.setattr(retrain, "_retrain", dies)
    monkeypatch.setattr(retrain.logs, "kept", lambda _: pytest.MonkeyPatch.context())
    monkeypatch.setattr(retrain, "beating", lambda _: pytest.MonkeyPatch.context())
    monkeypatch.setattr(retrain.announce, "failed", lambda params, run, words: told.append(words))
    monkeypatch.setenv("CONVOY_FLOW_PID", "")
    flow_run = FlowRun(flow_id=uuid4(), deployment_id=deployment, name="one")
    with FlowRunContext.model_construct(flow_run=flow_run), pytest.raises(Died):
        retrain.retrain.fn(retrain.BY_HAND)
    assert told == [DIED] * notices
