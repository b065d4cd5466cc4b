"""A training that is killed at any point and started again ends with the weights of the one that nobody killed.

CONVOY_ROUNDS sets how many are killed at random.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import Forked, stage
from safetensors.torch import save_file
from trained import (
    EPOCHS,
    IMAGES,
    STEPS,
    change,
    copy,
    die,
    dying,
    finish,
    folder,
    learnt,
    outputs,
    prepare,
    same,
    state,
    train,
)

from pipeline.failpoints import TrainingPoint
from pipeline.files import sha256_of
from pipeline.journal import read
from pipeline.plugin import config_class
from pipeline.train import checkpoint, seen
from pipeline.train.folders import LOCK
from pipeline.train.generations import CURRENT, FINISHED, OLD

LONGEST = 2.0
"""Seconds of life before a kill, about what the whole training takes."""
ROUNDS = int(os.environ.get("CONVOY_ROUNDS", "4"))
IN_CHECKPOINTS = (
    TrainingPoint.STEPS_NOTED,
    TrainingPoint.CHECKPOINT_BEGUN,
    TrainingPoint.CHECKPOINT_WRITTEN,
    TrainingPoint.CHECKPOINT_SHIFTED,
    TrainingPoint.CHECKPOINT_NAMED,
)
DEATHS = (
    (TrainingPoint.CHECKPOINT_BEGUN, 1, ""),  # the one before the first step
    (TrainingPoint.CHECKPOINT_NAMED, 1, "epoch 1, step 0"),
    (TrainingPoint.STEPS_NOTED, 1, "epoch 1, step 0"),
    (TrainingPoint.CHECKPOINT_NAMED, 1, "epoch 1, step 1"),
    (TrainingPoint.CHECKPOINT_BEGUN, 3, "epoch 1, step 3"),
    (TrainingPoint.CHECKPOINT_WRITTEN, 2, "epoch 1, step 5"),
    (TrainingPoint.CHECKPOINT_SHIFTED, 1, "epoch 1, step 5"),  # while it is taken up: it says nothing
    (TrainingPoint.CHECKPOINT_SHIFTED, 4, "epoch 1, step 9"),
    (TrainingPoint.CHECKPOINT_NAMED, 2, "epoch 1, step 11"),
    (TrainingPoint.BEST_KEPT, 1, "epoch 1, step 11"),
    (TrainingPoint.EPOCH_NOTED, 1, "epoch 1, step 11"),
    (TrainingPoint.CHECKPOINT_NAMED, 1, "epoch 2, step 0"),
    (TrainingPoint.EPOCHS_DONE, 1, "epoch 4, step 0"),
    (TrainingPoint.MODEL_WRITTEN, 1, "epoch 4, step 0"),
    (TrainingPoint.NOTES_WRITTEN, 1, "epoch 4, step 0"),
)
"""Where it dies, the how manieth time that it comes there, and from where it then goes on."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("prepared") / "project")


@pytest.fixture(scope="module")
def unharmed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that nobody killed."""
    project = copy(prepared, tmp_path_factory.mktemp("unharmed") / "project")
    assert "goes on" not in finish(project)
    return project


def steps_noted(project: Path) -> list[int]:
    return [row.step for row in read(folder(project) / "journal.jsonl", 0)[0] if row.series == "step"]


def is_as(project: Path, unharmed: Path) -> None:
    """The same outputs, every picture learnt from once an epoch, and nothing left lying about."""
    assert outputs(project) == outputs(unharmed)
    assert learnt(project) == learnt(unharmed)
    assert steps_noted(project) == list(range(EPOCHS * STEPS))
    names = {path.name for path in folder(project).iterdir()}
    weights = {name for name in names if name.startswith("best-")}
    assert 1 <= len(weights) <= 2
    assert names - weights == {CURRENT, OLD, FINISHED, LOCK, "journal.jsonl", seen.SEEN}


def test_every_picture_is_learnt_from_once_an_epoch(unharmed: Path) -> None:
    steps, views = zip(*learnt(unharmed), strict=True)
    assert steps == tuple(range(EPOCHS * STEPS))
    for epoch in range(EPOCHS):
        seen_then = np.concatenate(views[epoch * STEPS : (epoch + 1) * STEPS])
        assert len(seen_then) == len(set(seen_then)) == 64 * STEPS
        assert seen_then.min() >= 0 and seen_then.max() < IMAGES


@pytest.mark.slow
def test_killed_between_any_two_writes(prepared: Path, unharmed: Path, tmp_path: Path) -> None:
    project = copy(prepared, tmp_path / "project")
    going_on = ""
    for point, time_, then in DEATHS:
        words = die(project, point, time_)
        while_taken_up = not words and point is TrainingPoint.CHECKPOINT_SHIFTED
        assert (f"train: goes on from {going_on} of 11\n" if going_on else "") in words or while_taken_up
        assert going_on or "goes on" not in words
        going_on = then
    assert f"goes on from {going_on} of 11" in finish(project)
    is_as(project, unharmed)
    assert "goes on from epoch 4, step 0 of 11" in finish(project)  # once more, when all is done
    is_as(project, unharmed)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(ROUNDS))
def test_killed_at_random(prepared: Path, unharmed: Path, tmp_path: Path, number: int) -> None:
    """Twice: in the middle of a checkpoint, and at any moment; each time with other threads that load pictures."""
    chance = random.Random(number)
    project = copy(prepared, tmp_path / "project")
    for in_checkpoint in chance.sample((True, False), 2):
        change(project, compute={"loader_threads": chance.randrange(1, 6)})
        if in_checkpoint:
            ended = dying(project, chance.choice(IN_CHECKPOINTS), chance.randrange(1, EPOCHS * STEPS)).ended()
        else:
            ended = train(project).killed_after(chance.uniform(0, LONGEST))
        assert ended.status in (-signal.SIGKILL, 0), ended.words
        assert "cannot be" not in ended.words  # every checkpoint loads
    change(project, compute={"loader_threads": 2})
    assert "cannot be" not in finish(project)
    is_as(project, unharmed)


def interrupted() -> int:
    """The stage `train`, to which Ctrl-C comes after some steps, in a process of its own."""
    passing, named = checkpoint.passing, itertools.count()

    def listening(point: TrainingPoint) -> None:
        passing(point)
        if point is TrainingPoint.CHECKPOINT_NAMED and next(named) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    checkpoint.passing = listening  # type: ignore[attr-defined]
    return stage("train")


def test_interrupted_and_started_again(prepared: Path, unharmed: Path, tmp_path: Path) -> None:
    project = copy(prepared, tmp_path / "project")
    ended = Forked(project, interrupted).ended()
    assert ended.status == 130
    assert "a checkpoint is kept, and the next run goes on from there." in ended.words
    assert not (project / "out/model").exists()
    position = ended.words.partition("stopped in ")[2].partition(";")[0].replace(" after", ",")
    assert f"goes on from {position}" in finish(project)
    is_as(project, unharmed)


@pytest.mark.slow
def test_a_damaged_checkpoint_gives_way_to_the_one_before(prepared: Path, unharmed: Path, tmp_path: Path) -> None:
    project = copy(prepared, tmp_path / "project")
    die(project, TrainingPoint.CHECKPOINT_NAMED, 16)  # the beginning, 11 steps, the epoch's end, 3 steps
    newest = folder(project) / CURRENT
    newest.write_bytes(newest.read_bytes()[:1000])
    words = finish(project)
    assert "train: checkpoint.pt cannot be read" in words
    assert "goes on from epoch 2, step 2 of 11" in words
    is_as(project, unharmed)


@pytest.mark.slow
def test_a_checkpoint_that_is_ahead_of_what_is_noted_gives_way(prepared: Path, unharmed: Path, tmp_path: Path) -> None:
    """As a power cut may leave it, on a disk that loses what was not flushed."""
    project = copy(prepared, tmp_path / "project")
    die(project, TrainingPoint.CHECKPOINT_NAMED, 5)
    log = folder(project) / seen.SEEN
    log.write_bytes(log.read_bytes()[: 4 * (3 * 66 + 30)])  # three steps, and half of the fourth
    words = finish(project)
    assert "train: checkpoint.pt cannot be used without the log of what its steps have seen" in words
    assert "goes on from epoch 1, step 3 of 11" in words
    is_as(project, unharmed)


ENGINES: dict[str, dict[str, dict[str, Any]]] = {
    "lookahead, one cycle, mixup, runs": {
        "average": {"name": "lookahead"},
        "schedule": {"name": "one_cycle"},
        "mixing": {"name": "mixup"},
        "order": {"name": "runs"},
        "optimizer": {"name": "sgd", "lr": 0.05},
        "augment": {"name": "strong", "size": 32},
    },
    "ema, plateau, cutmix, balanced": {
        "average": {"name": "ema"},
        "schedule": {"name": "plateau", "patience": 1},
        "mixing": {"name": "cutmix"},
        "order": {"name": "balanced"},
        "train": {"accumulation": 2, "clip_norm": 1.0, "patience": 2},
    },
    "swa, step, both, curriculum by loss": {
        "average": {"name": "swa"},
        "schedule": {"name": "step"},
        "mixing": {"name": "both"},
        "order": {"name": "curriculum"},
        "optimizer": {"name": "sam", "lr": 0.01},
    },
    "muon, polynomial, weighted, growing pictures, layers that thaw": {
        "optimizer": {"name": "muon"},
        "schedule": {"name": "polynomial"},
        "order": {"name": "weighted"},
        "train": {"first_size": 16},
        "layers": {"frozen_epochs": 1, "thawing_epochs": 1, "rate_decay": 0.9},
    },
}


def begun(project: Path) -> dict[str, str]:
    """A model that begins with weights of a file, which layers may rest on."""
    torch.manual_seed(0)
    save_file(config_class("models", "convnet")().build(1, 10, 32).state_dict(), project / "begun.safetensors")
    digest = sha256_of(project / "begun.safetensors")
    return {"name": "convnet", "weights": "begun.safetensors", "weights_sha256": digest}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_the_engine_does(prepared: Path, tmp_path: Path, engine: str) -> None:
    """Killed early and late in the first two epochs: the same state of everything after the last one."""
    whole, killed = copy(prepared, tmp_path / "whole"), copy(prepared, tmp_path / "killed")
    for project in (whole, killed):
        rests = "layers" in ENGINES[engine]
        change(project, **ENGINES[engine], **({"model": begun(project)} if rests else {}))
        change(project, train={"batch_size": 128})
    steps = IMAGES // 128
    die(whole, TrainingPoint.EPOCHS_DONE)
    die(killed, TrainingPoint.CHECKPOINT_NAMED, 4)  # the beginning and 3 steps
    die(killed, TrainingPoint.CHECKPOINT_NAMED, steps - 3 + 1 + 2)
    assert f"goes on from epoch 2, step 2 of {steps}" in die(killed, TrainingPoint.EPOCHS_DONE)
    one, other = state(whole), state(killed)
    assert same(one, other)
    assert one["progress"]["worths"] == other["progress"]["worths"]
    assert learnt(whole) == learnt(killed)
    assert {path.name: path.read_bytes() for path in folder(whole).glob("best-*")} == {
        path.name: path.read_bytes() for path in folder(killed).glob("best-*")
    }
