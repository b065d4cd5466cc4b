"""Runs in trees of their own, queues of them, and DVC's own experiments: one way in, the same results and records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import databases
import psutil
import pytest
import yaml
from small_project import command, commit, convoy, environment, git, make, make_pictures

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("experiments")
    make_pictures(home / "pictures")
    return home


@pytest.fixture(scope="module")
def project(home: Path) -> Path:
    """A project that has run once, with its lock committed."""
    project = make(home / "project", home / "pictures")
    convoy(project, "run")
    commit(project, "the first run")
    return project


def dvc(project: Path, *arguments: str) -> str:
    return command(project, "-m", "dvc", *arguments)


def records(project: Path) -> dict[int, dict[str, Any]]:
    """By seed."""
    found = [json.loads(path.read_text()) for path in (project / ".convoy/runs").glob("*/record.json")]
    return {record["params"]["seed"]: record for record in found}


def contents(project: Path) -> dict[str, bytes]:
    """Every file of the working tree that git knows or would add, and what lies in out/."""
    names = git(project, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    paths = [*map(project.joinpath, names), *(path for path in (project / "out").rglob("*") if path.is_file())]
    return {str(path.relative_to(project)): path.read_bytes() for path in paths if path.exists()}


def test_a_queue_runs_one_after_the_other_and_touches_nothing_here(project: Path) -> None:
    before = contents(project)
    words = convoy(project, "run", "--set", "seed=1,2")
    assert words.startswith("2 experiments, one after the other, each in a tree of its own.\n")
    assert words.count("train: kept epoch") == 2
    assert "seed=1: done\nseed=2: done\n" in words
    assert contents(project) == before
    assert list((project / ".convoy/worktrees").iterdir()) == []
    named = {seed: record["tags"]["dvc.experiment"] for seed, record in records(project).items() if seed}
    assert sorted(named) == [1, 2]
    listed = dvc(project, "exp", "list", "--names-only").split()
    assert sorted(listed) == sorted(named.values())
    again = convoy(project, "run", "--isolated", "--set", "seed=2")
    assert again.count("Nothing to do") == 1
    assert "train:" not in again


def test_an_experiment_comes_home(project: Path) -> None:
    record = records(project)[2]
    dvc(project, "exp", "apply", record["tags"]["dvc.experiment"])
    assert (project / "dvc.lock").read_text() == record["lock_text"]
    assert yaml.safe_load((project / "params.yaml").read_text())["seed"] == 2
    assert "everything is up to date" in convoy(project, "status")
    assert "Nothing to do" in convoy(project, "run")
    changed = dvc(project, "metrics", "diff").splitlines()
    assert changed[0].split() == ["Path", "Metric", "HEAD", "workspace", "Change"]
    assert any("out/evaluation/metrics.json" in line for line in changed[1:])
    assert dvc(project, "params", "diff").split()[-4:] == ["params.yaml", "seed", "0", "2"]
    assert "index.html" in dvc(project, "plots", "diff")
    git(project, "checkout", "--", ".")
    dvc(project, "checkout")


def test_dvc_exp_run_and_convoy_run_come_to_the_same(project: Path, home: Path) -> None:
    other = home / "other"
    git(project, "clone", "-q", str(project), str(other))
    databases.give(other)
    dvc(other, "exp", "run", "-S", "seed=2")
    convoy(other, "run")
    ours, theirs = records(project)[2], records(other)[2]
    for key in ("params", "data", "scores", "lock_text"):
        assert ours[key] == theirs[key], key
    assert ours["version"]["digest"] == theirs["version"]["digest"]


def test_neither_a_run_of_its_own_tree_nor_somebody_at_work_here_notices_the_other(project: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-u", "-m", "flows.cli", "run", "--isolated", "--set", "seed=3", "--set", "train.epochs=120"],
        cwd=project,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("train: epoch   1/"):
            break
    training = [one for one in psutil.Process(run.pid).children(recursive=True) if "train" in one.cmdline()]
    assert training
    for process in training:
        process.suspend()
    git(project, "switch", "-q", "-c", "elsewhere")
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("\nseed: 0", "\nseed: 4"))
    (project / "pipeline/models/lenet5.py").write_text("raise SystemExit('edited meanwhile')\n")
    dvc(project, "repro", "--single-item", "ingest")
    git(project, "checkout", "--", "pipeline")
    for process in training:
        assert process.is_running(), "the training ended too early to prove anything"
        process.resume()
    dvc(project, "repro")
    assert dvc(project, "status").split() == ["ingest:", "always", "changed"]
    words, _ = run.communicate(timeout=600)
    assert run.returncode == 0, words
    assert "edited meanwhile" not in words
    assert git(project, "rev-parse", "--abbrev-ref", "HEAD") == "elsewhere"
    assert set(git(project, "status", "--porcelain").splitlines()) == {"M dvc.lock", " M params.yaml"}
    assert records(project)[3]["code"]["branch"] == ""
    assert "seed: 3" in records(project)[3]["code"]["patch"]
    assert "identical." in convoy(project, "verify", records(project)[3]["id"])


def test_what_cannot_come_along_is_said(project: Path) -> None:
    with (project / "large.bin").open("wb") as file:
        file.truncate(2_000_000)
    assert "large.bin: new, not known to git, and too large to come along." in convoy(
        project, "run", "--isolated", status=1
    )
    (project / "large.bin").unlink()
    assert "git knows no commit 'nowhere'" in convoy(project, "run", "--isolated", "--ref", "nowhere", status=1)
    assert "add --isolated" in convoy(project, "run", "--ref", "main", status=1)
