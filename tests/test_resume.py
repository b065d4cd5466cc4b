"""A training that is killed at any point and started again ends with the weights of the one that nobody killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.bundle import digest_of
from pipeline.door import parse
from pipeline.journal import read
from pipeline.params import Params

ROOT = Path(__file__).parents[1]
SMALL = (
    ("name: convnet ", "name: lenet5 "),
    ("epochs: 10", "epochs: 3"),
    ("checkpoint_seconds: 30", "checkpoint_seconds: 0"),
    ("precision: auto", "precision: float32"),
    ("memory_format: auto", "memory_format: contiguous"),
    ("  threads: 0", "  threads: 1"),
    ("loader_threads: 0", "loader_threads: 2"),
)
STEPS = 3 * (1177 // 64)


def stage(name: str, project: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", name],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(name: str, project: Path) -> str:
    process = stage(name, project)
    words, _ = process.communicate(timeout=120)
    assert process.returncode == 0, words
    return words


def steps_done(project: Path) -> int:
    return sum(row.series == "step" for path in journals(project) for row in read(path, 0)[0])


def journals(project: Path) -> list[Path]:
    return list(project.glob(".convoy/train/*/journal.jsonl"))


def outputs(project: Path) -> tuple[str, dict[str, bytes]]:
    notes = {path.name: path.read_bytes() for path in sorted((project / "out/training").iterdir())}
    return digest_of(project / "out/model"), notes


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A project whose training is due."""
    project = tmp_path_factory.mktemp("prepared")
    text = (ROOT / "params.yaml").read_text()
    for old, new in SMALL:
        assert old in text
        text = text.replace(old, new)
    parse(Params, text)
    (project / "params.yaml").write_text(text)
    finish("ingest", project)
    finish("augment", project)
    return project


@pytest.fixture(scope="module")
def unharmed(prepared, tmp_path_factory):
    project = tmp_path_factory.mktemp("unharmed") / "project"
    shutil.copytree(prepared, project)
    finish("train", project)
    assert steps_done(project) == STEPS
    return outputs(project)


def test_killed_and_started_again(prepared, unharmed, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(prepared, project)
    text = (project / "params.yaml").read_text()  # another number of loader threads gives the same pixels
    (project / "params.yaml").write_text(text.replace("loader_threads: 2", "loader_threads: 4"))
    chance = random.Random(0)
    for kill_at in sorted(chance.sample(range(1, STEPS - 2), 2)):
        process = stage("train", project)
        while steps_done(project) < kill_at:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = steps_done(project)
    assert last < STEPS
    assert "train: goes on from epoch" in finish("train", project)
    assert outputs(project) == unharmed
    (journal,) = journals(project)
    rows = [row for row in read(journal, 0)[0] if row.series == "step"]
    assert [row.step for row in rows] == list(range(STEPS))  # each once


def test_interrupted_and_started_again(prepared, unharmed, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(prepared, project)
    process = stage("train", project)
    while steps_done(project) < 5:
        time.sleep(0.01)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    words, _ = process.communicate(timeout=30)
    assert time.monotonic() - start < 10
    assert process.returncode == 130
    assert "a checkpoint is kept, and the next run goes on from there." in words
    assert not (project / "out/model").exists()
    finish("train", project)
    assert outputs(project) == unharmed


def test_a_damaged_checkpoint_gives_way_to_the_one_before(prepared, unharmed, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(prepared, project)
    process = stage("train", project)
    while steps_done(project) < STEPS // 2:
        time.sleep(0.01)
    process.kill()
    process.wait()
    (journal,) = journals(project)
    folder = journal.parent
    newest = folder / "checkpoint.pt"
    if (written := folder / "checkpoint.new.pt").exists():  # killed before it got its name
        written.replace(newest)
    newest.write_bytes(newest.read_bytes()[:1000])
    words = finish("train", project)
    assert "checkpoint.pt cannot be read" in words
    assert "goes on from epoch" in words
    assert outputs(project) == unharmed
