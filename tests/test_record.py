"""The record of a run in MLflow: one run, each step once, through kills and a store that is away."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from registry_project import EPOCHS, HOME, STEPS, enter_project, make_project, step_loss

from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.journal import ROLLBACK, Journal, current
from pipeline.params import Params, described
from pipeline.registry import attempts, code, glances, record, tracking
from pipeline.registry.attempts import Finished, Work
from pipeline.registry.code import Code
from pipeline.registry.drain import Drain
from pipeline.registry.record import Run

CLEAN = Code(commit="c" * 40, branch="main")
DATABASE = Path(".convoy") / tracking.DATABASE
DONE = Finished(id="i", run="r", version="1", outcome="hold", champion=False, reasons=[])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    root = tmp_path_factory.mktemp("record") / "project"
    return root, make_project(root)


@pytest.fixture
def params(made: tuple[Path, Params]) -> Params:
    return made[1]


@pytest.fixture
def client(made: tuple[Path, Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Of a store without runs, in a project whose stages have run."""
    return enter_project(made[0], tmp_path / "project", monkeypatch)


def begun(params: Params) -> Work:
    return attempts.begin(params, "d" * 64)


def opened(client: MlflowClient, params: Params, code: Code = CLEAN) -> Run:
    """The MLflow run of an attempt whose process is then killed: its lock is free."""
    work = begun(params)
    run = record.open_run(client, work, params, code, {"prefect.flow_run": "f"})
    work.release()
    return run


def finish(params: Params, text: str = "name: x") -> None:
    work = begun(params)
    work.finish(text, DONE)
    work.release()


def history(run: Run, key: str) -> list[tuple[int, float]]:
    return sorted((metric.step, metric.value) for metric in run.client.get_metric_history(run.id, key))


def journal_steps(first: int, last: int) -> None:
    """Training that notes the steps `first` to `last`; a resumed one meets steps that are there."""
    journal = Journal(Path(".convoy/train/k"))
    for step in range(first, last + 1):
        journal.append("step", step, {"train/loss": step_loss(step), "train/learning_rate": 0.001})
    journal.close()


EVERY_STEP = [(step, step_loss(step)) for step in range(STEPS)]


def test_a_user_without_a_name_records_too(
    client: MlflowClient, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that is given a number alone."""

    def nobody(user: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert client.get_run(opened(client, params).id).data.tags["mlflow.user"] == "unknown"


def test_a_killed_run_goes_on_in_the_same_mlflow_run(client: MlflowClient, params: Params) -> None:
    first = opened(client, params)
    second = opened(client, params)
    assert (second.id, second.started) == (first.id, first.started)
    assert client.get_run(first.id).data.tags["resumed"] == "1"
    assert client.get_run(first.id).info.status == "RUNNING"


def test_a_run_killed_before_its_id_was_noted_is_found(client: MlflowClient, params: Params) -> None:
    first = opened(client, params)
    [noted] = Path(".convoy/runs").glob("*/attempt.json")
    noted.write_text(json.dumps(json.loads(noted.read_text()) | {"run": ""}))
    assert opened(client, params).id == first.id


def test_another_key_ends_the_old_run_as_killed(client: MlflowClient, params: Params) -> None:
    first = opened(client, params)
    second = opened(client, params.model_copy(update={"seed": 1}))
    assert second.id != first.id
    assert client.get_run(first.id).info.status == "KILLED"


def test_a_run_that_was_killed_goes_on_though_another_came_between(client: MlflowClient, params: Params) -> None:
    first = opened(client, params)
    opened(client, params.model_copy(update={"seed": 1}))
    assert opened(client, params).id == first.id
    assert client.get_run(first.id).info.status == "RUNNING"


def test_a_run_at_work_is_not_ended_by_another(client: MlflowClient, params: Params) -> None:
    work = begun(params)
    run = record.open_run(client, work, params, CLEAN, {})
    opened(client, params.model_copy(update={"seed": 1}))
    assert client.get_run(run.id).info.status == "RUNNING"
    assert attempts.at_work(work.attempt)
    work.release()
    assert next(left.id for left in attempts.stopped_short()) == work.attempt.id


def test_what_a_run_is_made_of_and_does_is_known_while_it_is_at_work(client: MlflowClient, params: Params) -> None:  # noqa: ARG001
    first = attempts.begin(params, "d" * 64, flow_run="first")
    assert first.before == ""
    first.at("train")
    first.trains("k")
    noted = attempts.read(first.attempt.id)
    assert noted and (noted.stage, noted.training, noted.params) == ("train", "k", described(params))
    [glance] = glances.read_all()
    assert (glance.state, glance.params["train.epochs"]) == ("working", params.train.epochs)
    first.release()
    quiet = params.model_copy(update={"flow": params.flow.model_copy(update={"retries": 7})})  # the same run
    second = attempts.begin(quiet, "d" * 64, flow_run="second")
    assert second.before == "first"
    noted = attempts.read(first.attempt.id)
    assert noted and (noted.stage, noted.training, noted.params["flow"]["retries"]) == ("", "k", 7)
    second.at("judge")
    second.finish("name: x", DONE)
    second.release()
    noted = attempts.read(first.attempt.id)
    assert noted and noted.stage == ""
    for name in ("", "..", "../runs", first.attempt.id.upper(), "f" * 32):
        assert attempts.read(name) is None


def test_the_very_same_run_waits_for_the_one_at_work(params: Params, client: MlflowClient) -> None:
    first, waited = begun(params), threading.Event()
    ids: list[str] = []

    def second() -> None:
        work = attempts.begin(params, "d" * 64, wait=waited.set)
        ids.append(work.attempt.id)
        work.release()

    thread = threading.Thread(target=second)
    thread.start()
    assert waited.wait(120)
    assert ids == []
    first.finish("name: x", DONE)
    first.release()
    thread.join(120)
    assert ids != [first.attempt.id]  # that one has finished: this is another
    assert list(Path(".convoy/at-work").iterdir()) == []


def test_an_interrupted_run_is_taken_up_and_a_finished_one_is_not(client: MlflowClient, params: Params) -> None:
    first = opened(client, params)
    record.interrupt(first, "FAILED")
    assert client.get_run(first.id).info.status == "FAILED"
    assert opened(client, params).id == first.id
    record.close(first)
    finish(params)
    assert client.get_run(first.id).info.status == "FINISHED"
    assert opened(client, params).id != first.id


def test_nothing_to_do_is_known_without_mlflow(client: MlflowClient, params: Params) -> None:
    finish(params, "name: x\nflow: {retries: 1}")
    assert attempts.finished("name: x\nflow: {retries: 2}") == DONE
    assert attempts.finished("name: y") is None
    for broken in ("name: [", "seed: 2026-13-45", "[" * 5000):
        assert attempts.finished(broken) is None  # the door says what is wrong with it
    lock = Path("dvc.lock")
    lock.write_text(lock.read_text().replace("cmd", "command"))
    assert attempts.finished("name: x") is None


def test_the_run_says_what_ran(client: MlflowClient, params: Params) -> None:
    run = client.get_run(opened(client, params).id)
    assert re.fullmatch(r"convnet 20\d\d-\d\d-\d\d \d\d:\d\d", run.info.run_name)
    assert run.data.params["model.name"] == "convnet"
    assert run.data.params["train.epochs"] == str(params.train.epochs)
    tags = run.data.tags
    assert (tags["git.commit"], tags["git.branch"], tags["git.dirty"]) == ("c" * 40, "main", "no")
    assert tags["prefect.flow_run"] == "f"
    assert tags["env.python"] == ".".join(map(str, sys.version_info[:3]))


def everything(client: MlflowClient) -> list[Any]:
    """All that the store holds about runs."""
    database = sqlite3.connect(DATABASE)
    tables = ("metrics", "latest_metrics", "params", "tags", "datasets", "inputs", "input_tags")
    return [sorted(map(repr, database.execute(f"SELECT * FROM {table}"))) for table in tables]


def test_outputs_are_recorded_once_however_often(client: MlflowClient, params: Params) -> None:
    run = opened(client, params)
    record.record_outputs(run, params, {"train": 12.345})
    before = everything(client)
    record.record_outputs(run, params, {"train": 12.345})
    assert everything(client) == before
    found = client.get_run(run.id)
    assert found.data.metrics == {
        "test/accuracy": 0.9,
        "test/accuracy_low": 0.8,
        "test/accuracy_high": 0.97,
        "seconds/train": 12.345,
    }
    [data] = found.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits", "d" * 36)
    assert found.data.tags["dataset.digest"] == "d" * 64
    assert found.data.tags["stage.train"] == "ran in 12.3 s"
    kept = {file.path for folder in ("", "evaluation", "dataset") for file in client.list_artifacts(run.id, folder)}
    assert {"params.yaml", "dvc.lock", "evaluation/report.html", "dataset/dataset.json", "policy", "training"} <= kept


def test_a_skipped_stage_names_the_run_that_first_computed_it(client: MlflowClient, params: Params) -> None:
    first = opened(client, params)
    record.record_outputs(first, params, {"train": 1})
    record.close(first)
    finish(params)
    second = opened(client, params)
    record.record_outputs(second, params, {})
    assert client.get_run(second.id).data.tags["stage.train"] == f"up to date; first computed by run {first.id}"
    assert client.get_run(second.id).data.metrics["test/accuracy"] == 0.9  # and yet the run is complete


def test_each_step_is_logged_once_through_kills_and_resumes(client: MlflowClient, params: Params) -> None:
    run = opened(client, params)
    journal_steps(0, 7)
    Drain(client, run.id, run.started)._send_journal()  # a flow that is then killed
    journal_steps(5, 12)  # a training that resumes from its checkpoint
    drain = Drain(client, run.id, run.started)
    drain._send_journal()
    drain._send_journal()
    assert history(run, "train/loss") == EVERY_STEP[:13]
    drain.finish()  # the rest is in the stage's files alone
    drain.finish()
    assert history(run, "train/loss") == EVERY_STEP
    assert history(run, "epoch/val_accuracy") == [(epoch, 0.8 + epoch / 10) for epoch in range(EPOCHS)]


def test_steps_that_a_training_has_gone_back_behind_are_logged_again(client: MlflowClient, params: Params) -> None:
    run = opened(client, params)
    journal = Journal(Path(".convoy/train/k"))

    def learn(first: int, loss: float) -> None:
        for step in range(first, 4):
            journal.append("step", step, {"train/loss": loss + step})
            journal.append("gradient", step, {"gradient_norm/all": loss + step})
        journal.append("epoch", 1, {"epoch/val_loss": loss})

    learn(0, 100.0)
    journal.flush()
    Drain(client, run.id, run.started)._send_journal()
    journal.append("rollback", 0, {"step": 2.0, "gradient": 2.0, "epoch": 1.0})
    learn(2, 200.0)
    journal.close()
    drain = Drain(client, run.id, run.started)
    drain._send_journal()
    Drain(client, run.id, run.started)._send_journal()  # one that begins anew changes nothing
    taken = [(0, 100.0), (1, 101.0), (2, 102.0), (2, 202.0), (3, 103.0), (3, 203.0)]
    assert history(run, "train/loss") == history(run, "gradient_norm/all") == taken
    assert history(run, "epoch/val_loss") == [(1, 100.0), (1, 200.0)]
    assert drain._last("train/loss") == 3


def test_each_member_of_an_ensemble_has_series_of_its_own(client: MlflowClient, params: Params) -> None:
    run, home = opened(client, params), Path(".convoy/train/k")

    def learn(member: int, first: int, last: int, loss: float) -> None:
        journal = Journal(home, member)
        for step in range(first, last + 1):
            journal.append("step", step, {"train/loss": loss + step})
        journal.append("epoch", 0, {"epoch/val_loss": loss})
        journal.close()

    learn(1, 0, 3, 100.0)
    Drain(client, run.id, run.started)._send_journal()
    learn(2, 0, 2, 200.0)
    drain = Drain(client, run.id, run.started)  # of a flow that was killed and is taken up again
    drain._send_journal()
    learn(2, 1, 3, 200.0)  # the training goes on from its checkpoint
    drain._send_journal()
    journal = Journal(home, 2)
    journal.append(ROLLBACK, 0, {"step": 2.0, "gradient": 2.0, "epoch": 0.0})
    journal.close()
    learn(2, 2, 3, 300.0)
    drain._send_journal()
    table = ["member,step,loss", *(f"1,{step},{100.0 + step}" for step in range(4))]
    table += [*(f"2,{step},{(200.0, 300.0)[step > 1] + step}" for step in range(4)), "3,0,400.0", "3,1,401.0"]
    write_text(Path("out/training/steps.csv"), "\n".join(table) + "\n")
    write_text(Path("out/training/epochs.csv"), "member,epoch,val_loss\n1,0,100.0\n2,0,300.0\n3,0,400.0\n")
    for _ in range(2):
        drain.finish()  # the third member is in the stage's files alone
    assert history(run, "member_1/train/loss") == [(step, 100.0 + step) for step in range(4)]
    once_more = [(2, 202.0), (2, 302.0), (3, 203.0), (3, 303.0)]
    assert history(run, "member_2/train/loss") == [(0, 200.0), (1, 201.0), *once_more]
    assert history(run, "member_3/train/loss") == [(0, 400.0), (1, 401.0)]
    losses = [history(run, f"member_{member}/epoch/val_loss") for member in (1, 2, 3)]
    assert losses == [[(0, 100.0)], [(0, 200.0), (0, 300.0)], [(0, 400.0)]]
    assert history(run, "train/loss") == []


def test_a_training_that_starts_over_is_read_anew(client: MlflowClient, params: Params) -> None:
    run, path = opened(client, params), Path(".convoy/train/k/journal.jsonl")
    journal_steps(0, 5)
    drain = Drain(client, run.id, run.started, "k")
    drain._send_journal()
    path.unlink()
    time.sleep(0.002)
    journal_steps(0, STEPS - 1)
    drain._send_journal()
    assert history(run, "train/loss") == EVERY_STEP


def test_norms_of_layers_are_logged_from_the_files_where_there_are_any(client: MlflowClient, params: Params) -> None:
    run = opened(client, params)
    write_text(Path("out/training/gradients.csv"), "step,all,head,stages.0\n0,5.0,4.0,\n50,13.0,12.0,5.0\n")
    Drain(client, run.id, run.started).finish()
    assert history(run, "gradient_norm/all") == [(0, 5.0), (50, 13.0)]
    assert history(run, "gradient_norm/stages.0") == [(50, 5.0)]  # a layer that rested has none


def test_a_lost_answer_doubles_nothing(client: MlflowClient, params: Params) -> None:
    run = opened(client, params)
    journal_steps(0, 5)
    drain = Drain(client, run.id, run.started)
    drain._send_journal()
    drain._logged, drain._offsets = {}, {}  # as if MLflow had taken the batch and never said so
    drain._send_journal()
    assert history(run, "train/loss") == EVERY_STEP[:6]


def test_the_journal_of_an_earlier_run_is_not_sent(client: MlflowClient, params: Params) -> None:
    journal_steps(0, 5)
    hour_ago = time.time() - 3600
    os.utime(".convoy/train/current", (hour_ago, hour_ago))
    run = opened(client, params)
    Drain(client, run.id, run.started)._send_journal()
    assert history(run, "train/loss") == []


def test_a_run_that_is_taken_up_sends_its_own_journal_and_not_that_of_a_run_in_between(
    client: MlflowClient, params: Params
) -> None:
    run = opened(client, params)
    journal_steps(0, 3)
    mine = current()
    other = Journal(Path(".convoy/train/another"))
    for step in range(STEPS):
        other.append("step", step, {"train/loss": 9.0, "train/learning_rate": 9.0})
    other.close()
    assert mine and current() != mine
    now = time.time_ns() // 1_000_000 + 1000  # the flow run that takes it up begins
    Drain(client, run.id, now)._send_journal()
    assert history(run, "train/loss") == []
    Drain(client, run.id, now, mine.name)._send_journal()
    assert history(run, "train/loss") == EVERY_STEP[:4]


def test_a_store_that_is_away_for_a_while_loses_nothing(client: MlflowClient, params: Params) -> None:
    run = opened(client, params)
    drain = Drain(client, run.id, run.started).start()
    away = DATABASE.rename("away.db")
    DATABASE.mkdir()  # nothing can be opened there
    client._tracking_client.store.engine.dispose()
    journal_steps(0, STEPS - 1)
    with pytest.raises(UserError, match=r"MLflow does not take the metrics: .*\nNothing is lost: start its server"):
        drain.finish(patience=0.1)
    DATABASE.rmdir()
    away.rename(DATABASE)
    drain.finish()
    assert history(run, "train/loss") == EVERY_STEP


FOLLOWER = """
import sys, time
from pipeline.registry import tracking
from pipeline.registry.drain import Drain
drain = Drain(tracking.connect(), sys.argv[1], int(sys.argv[2])).start()
print("follows", flush=True)
time.sleep(3600)
"""


def test_a_real_kill_of_the_flow_doubles_and_loses_no_step(client: MlflowClient, params: Params) -> None:
    run = opened(client, params)
    command = [sys.executable, "-c", FOLLOWER, run.id, str(run.started)]
    flow = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(HOME)}, stdout=subprocess.PIPE)
    assert flow.stdout
    assert flow.stdout.readline() == b"follows\n"
    journal_steps(0, 9)
    until = time.monotonic() + 240
    while not history(run, "train/loss") and time.monotonic() < until:
        time.sleep(0.05)
    flow.send_signal(signal.SIGKILL)
    flow.wait()
    assert history(run, "train/loss")
    journal_steps(10, STEPS - 1)
    again = opened(client, params)
    Drain(client, again.id, again.started).start().finish()
    assert history(again, "train/loss") == EVERY_STEP


def test_a_mlflow_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match=r"(?s)MLflow at http://127.0.0.1:9 does not answer: [^:]{,60}\nStart its server"
    ):
        tracking.connect()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    write_text(root / "a.py", "one\n")
    write_text(root / ".gitignore", "ignored\n")
    git(root, "init", "-q", "-b", "trunk")
    commit(root)
    return root


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "x")


def test_a_clean_tree_needs_no_patch(repository: Path) -> None:
    write_text(repository / "ignored", "x")
    write_text(repository / "dvc.lock", "x")  # the run's own doing, and recorded apart
    found = code.read(repository)
    assert (found.branch, found.patch, found.dirty) == ("trunk", "", False)
    assert found.commit == git(repository, "rev-parse", "HEAD").strip()


def test_the_patch_brings_the_commit_to_the_tree(repository: Path, tmp_path: Path) -> None:
    write_text(repository / "a.py", "two\n")
    write_text(repository / "folder" / "näw file", "new\n")
    (repository / "picture.bin").write_bytes(bytes(range(256)))
    (repository / "large").write_bytes(b"x" * 1_000_001)
    staged = git(repository, "status", "--porcelain")
    found = code.read(repository)
    assert found.dirty
    assert found.left_out == ("large",)
    assert git(repository, "status", "--porcelain") == staged  # the user's index is as it was
    git(tmp_path, "clone", "-q", str(repository), "clone")
    (tmp_path / "patch").write_text(found.patch)
    git(tmp_path / "clone", "apply", "../patch")
    for name in ("a.py", "folder/näw file", "picture.bin"):
        assert (tmp_path / "clone" / name).read_bytes() == (repository / name).read_bytes()
    assert found != code.read(tmp_path / "clone")  # without the large file


def test_outside_a_repository_there_is_no_code_to_name(tmp_path: Path) -> None:
    assert code.read(tmp_path) == Code()


def test_a_dirty_tree_is_kept_with_the_run(client: MlflowClient, params: Params) -> None:
    dirty = Code(commit="c" * 40, branch="main", patch="diff --git a b\n", left_out=("big.bin",))
    run = opened(client, params, dirty)
    shutil.copy(client.download_artifacts(run.id, "code/uncommitted.patch"), "patch")
    assert Path("patch").read_text() == "# left out, too large: big.bin\ndiff --git a b\n"
    assert client.get_run(run.id).data.tags["git.dirty"].startswith("yes")
