"""The whole job for real, Prefect, DVC and MLflow: killed, taken up again, and compared with `dvc repro`.

`make quick` runs what needs one run that is killed and one that finishes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import databases
import pytest
import yaml
from PIL import Image
from small_project import environment

from pipeline.door import parse
from pipeline.params import Params
from pipeline.plugin import names
from pipeline.registry import ledger

pytestmark = pytest.mark.slow  # real runs and servers

ROOT = Path(__file__).parents[1]
EPOCHS = 6
"""As many as a busy machine leaves time to kill a training in, once it has told of the first."""
SMALL = (
    ("name: convnet ", "name: lenet5 "),
    ("epochs: 10", f"epochs: {EPOCHS}"),
    ("checkpoint_seconds: 30", "checkpoint_seconds: 0"),
    ("precision: auto", "precision: float32"),
    ("memory_format: auto", "memory_format: contiguous"),
    ("  threads: 0", "  threads: 1"),
    ("resamples: 1000", "resamples: 200"),
    ("baseline: class_means", "baseline: largest_class"),  # others use it with pictures that are easy
)
STEPS = EPOCHS * (1177 // 64)


def make_project(folder: Path) -> Path:
    folder.mkdir()
    for name in ("dashboard", "flows", "pipeline"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "requirements.lock", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc")
    text = (ROOT / "params.yaml").read_text()
    for old, new in SMALL:
        assert old in text
        text = text.replace(old, new)
    parse(Params, text)
    (folder / "params.yaml").write_text(text)
    return folder


def command(project: Path, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == status, done.stdout
    assert status == 70 or "Traceback" not in done.stdout, done.stdout
    return done.stdout


def convoy(project: Path, *arguments: str, status: int = 0) -> str:
    return command(project, "-m", "flows.cli", *arguments, status=status)


def started_until(project: Path, line: str, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A `convoy` in a session of its own, as a terminal gives it, and what it said until it came to `line`."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "flows.cli", *arguments],
        cwd=project,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said = ""
    for found in process.stdout:
        said += found
        if found.startswith(line):
            return process, said
    pytest.fail(f"it ended before {line!r}: {said}")


def runs(project: Path):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project}/.convoy/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    return client, found


def steps(client, run, key: str) -> list[int]:
    return [metric.step for metric in client.get_metric_history(run.info.run_id, key)]


@pytest.fixture(scope="module")
def killed_and_finished(tmp_path_factory) -> tuple[Path, str]:
    """A project whose first run is killed while it trains, and whose second run finishes."""
    project = make_project(tmp_path_factory.mktemp("flow") / "project")
    for arguments in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *arguments], cwd=project, check=True)
    first, _ = started_until(project, "train: epoch   1", "run")
    first.send_signal(signal.SIGKILL)
    first.wait()
    return project, convoy(project, "run")


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory) -> Path:
    """Another project, not in git, brought up to date by plain `dvc repro`."""
    project = make_project(tmp_path_factory.mktemp("plain") / "project")
    databases.give(project)
    command(project, "-m", "dvc", "config", "core.no_scm", "true")
    command(project, "-m", "dvc", "repro")
    return project


def test_a_killed_run_goes_on_in_the_same_mlflow_run(killed_and_finished):
    project, words = killed_and_finished
    assert "train: goes on from epoch" in words
    assert "digits version 1 is the champion" in words
    client, (run,) = runs(project)
    assert run.info.status == "FINISHED"
    assert run.data.tags["resumed"] == "1"
    assert sorted(steps(client, run, "train/loss")) == list(range(STEPS))
    assert sorted(steps(client, run, "epoch/val_accuracy")) == list(range(EPOCHS))
    assert str(client.get_model_version_by_alias("digits", "champion").version) == "1"


@pytest.mark.slow
def test_flow_and_dvc_repro_leave_the_same_lock(killed_and_finished, reproduced):
    project, _ = killed_and_finished
    assert (project / "dvc.lock").read_bytes() == (reproduced / "dvc.lock").read_bytes()
    assert yaml.safe_load((project / "dvc.lock").read_text())["stages"].keys() >= {"ingest", "train", "evaluate"}


@pytest.mark.slow
def test_stages_that_dvc_skips_are_recorded_whole(reproduced):
    words = convoy(reproduced, "run")
    assert "Not in a git repository" in words
    assert "train: epoch" not in words
    client, (run,) = runs(reproduced)
    assert sorted(steps(client, run, "train/loss")) == list(range(STEPS))
    assert run.data.metrics["test/accuracy"] > 0.5


def test_a_second_run_finds_nothing_to_do(killed_and_finished):
    project, _ = killed_and_finished
    assert "Nothing to do: data, params and code are those of the last run." in convoy(project, "run")
    assert len(runs(project)[1]) == 1
    assert "everything is up to date" in convoy(project, "status")


def test_mistakes_cost_a_line_and_change_nothing(killed_and_finished):
    project, _ = killed_and_finished
    before = {name: (project / name).read_bytes() for name in ("params.yaml", "dvc.lock")}
    assert convoy(project, "run", "--set", "model.name=lenet6", status=1).splitlines() == [
        "params.yaml: 1 problem",
        f"  model: no model named 'lenet6'. Did you mean 'lenet5'? pipeline/models/ has: {', '.join(names('models'))}.",
    ]
    after = {name: (project / name).read_bytes() for name in before}
    assert after == before


def test_a_second_run_waits_for_the_first(killed_and_finished):
    project, _ = killed_and_finished
    with (project / ".convoy" / "run.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [sys.executable, "-u", "-m", "flows.cli", "run"],
            cwd=project,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert "Another run is at work here" in second.stdout.readline()
        time.sleep(0.3)
        assert second.poll() is None
    words, _ = second.communicate(timeout=240)
    assert second.returncode == 0
    assert "Nothing to do" in words


@pytest.mark.slow
def test_another_seed_is_another_challenger_also_after_ctrl_c(killed_and_finished):
    project, _ = killed_and_finished
    process, words = started_until(project, "train: epoch   1", "run", "--set", "seed=1")
    assert "params.yaml is changed; the text from before is in .convoy/params/" in words
    assert "augment:" not in words  # DVC skips what does not depend on the seed
    os.killpg(process.pid, signal.SIGINT)
    words, _ = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "a checkpoint is kept, and the next run goes on from there." in words
    assert words.endswith("Stopped; nothing that was done is lost, and `convoy run` goes on from there.\n")
    words = convoy(project, "run")
    assert "train: goes on from epoch" in words
    assert "train: kept epoch" in words
    client, found = runs(project)
    newest = max(found, key=lambda run: run.info.start_time)
    assert newest.data.tags["stage.augment"].startswith("up to date; first computed by run ")
    assert len(client.search_model_versions("name = 'digits'")) == 2
    verdict = newest.data.tags["gate"]
    entries = ledger.history("digits", path=project / ".convoy" / "ledger.db")
    assert [entry.to_version for entry in entries] == (["1", "2"] if verdict == "promote" else ["1"])
    assert ledger.verify(project / ".convoy" / "ledger.db") is None


def test_the_champion_answers(killed_and_finished):
    project, _ = killed_and_finished
    from pipeline.dataset import Dataset

    test_split = Dataset.open(project / "out" / "dataset").split("test")
    picture = project / "digit.png"
    picture.write_bytes(test_split.read(0))
    words = convoy(project, "predict", "digit.png", "--json", "--draw", "drawn")
    answer = json.loads(words.splitlines()[-1])
    assert answer["image"] == str(picture)
    assert answer["label"] in map(str, range(10))
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    with Image.open(project / "drawn" / "digit.png") as drawn:
        assert min(drawn.size) >= 8
    assert "params.yaml: not a picture" in convoy(project, "predict", "params.yaml", status=1)


@pytest.mark.slow
def test_a_stage_that_takes_too_long_is_stopped_in_words(reproduced):
    words = convoy(reproduced, "run", "--set", "seed=7", "--set", "flow.timeout_seconds=1", status=1)
    assert "stopped after 1 s, as flow.timeout_seconds says." in words


@pytest.mark.slow
def test_what_is_asked_for_and_not_there(reproduced):
    assert "compute.device asks for 'cuda:7', but torch sees only: cpu" in convoy(
        reproduced, "run", "--set", "compute.device=cuda:7", status=1
    )
    missing = convoy(
        reproduced, "run", "--set", "compute.device=auto", "--set", "data={name: folder, path: /nowhere}", status=1
    )
    assert "/nowhere" in missing
    assert len(missing.strip().splitlines()) <= 4
