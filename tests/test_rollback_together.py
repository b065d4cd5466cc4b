"""Several processes that diverge: they find the same step, go back together, and come to what one alone comes to."""

from __future__ import annotations

import csv
import functools
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diverging import WILD, apart, left, stage_train
from engine_project import params_of, prepared, project, training_of
from forked import Ended
from safetensors.torch import load_file, save_file
from together import begun_together, together
from torch import Tensor, nn

from pipeline.__main__ import EXIT_DEFECT
from pipeline.errors import TemporaryFailure, UserError
from pipeline.failpoints import TrainingPoint
from pipeline.journal import read, standing
from pipeline.models.convnet import Config
from pipeline.params import described
from pipeline.train import divergence, seen
from pipeline.train.assembly import Training
from pipeline.train.divergence import Diverged, check_weights
from pipeline.train.epochs import finish_epochs
from pipeline.train.generations import CURRENT, OLD
from pipeline.train.saved import opened
from pipeline.train.steps import entered

__all__ = ["prepared", "project"]

STEPS = 5
"""Of an epoch: 40 pictures in batches of 8."""
BACK = (*WILD, "train.epochs=5", "train.when_diverging=rollback")
WHOLE = ("compute.processes=2",)
PARTS = (*WHOLE, "compute.sharded=true")
SHARED = [WHOLE, pytest.param(PARTS, marks=pytest.mark.slow)]


def gone_back(*changes: str) -> int:
    """Train to the end, and leave what has come of it in the current folder."""
    Config.build = apart  # type: ignore[method-assign]
    with training_of(params_of(Path.cwd(), *BACK, *changes)) as training:
        finish_epochs(training)
        checkpoints, progress, weights = training.checkpoints, training.progress, training.machine.weights()
        assert training.ranks.all_of((progress.rollbacks, progress.epoch)) == [([[3, 2], [3, 3]], 5)] * (
            training.ranks.count
        )
        if training.ranks.first:
            save_file(weights, "weights.safetensors")
            rows = standing(read(checkpoints.journal, 0)[0])
            views = [record.views.tolist() for record in seen.read(checkpoints.seen)]
            noted = [(row.series, row.step, row.values) for row in rows if row.series != "epoch"]
            Path("noted.json").write_text(json.dumps({"noted": noted, "seen": views}))
            epochs = [opened(checkpoints.folder / name).progress.epoch for name in (CURRENT, OLD)]
            assert (epochs, [row.step for row in rows if row.series == "epoch"]) == ([5, 4], list(range(5)))
    return 0


@pytest.fixture
def alone(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the project, which one process works in: this one."""
    folder = shutil.copytree(project, tmp_path / "alone")
    monkeypatch.setattr(Config, "build", Config.build)  # what is put in its place is taken away again
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize("changes", SHARED)
def test_they_go_back_to_where_one_would_and_learn_the_same(project: Path, alone: Path, changes) -> None:
    gone_back()
    first, _ = together(project, functools.partial(gone_back, *changes))
    assert "train: goes back to where epoch 4 began, and on with 0.5 of the learning rate\n" in first.words
    assert "train: goes back to where epoch 3 began, and on with 0.25 of the learning rate\n" in first.words
    mine, theirs = (load_file(folder / "weights.safetensors") for folder in (alone, project))
    assert mine.keys() == theirs.keys()
    assert max((mine[name] - theirs[name]).abs().max().item() for name in mine) < 1e-5
    mine, theirs = (json.loads((folder / "noted.json").read_text()) for folder in (alone, project))
    assert mine["seen"] == theirs["seen"]
    for (series, step, values), (*place, others) in zip(mine["noted"], theirs["noted"], strict=True):
        assert [series, step] == place
        assert values == pytest.approx(others, abs=1e-5)


PLAIN = ("optimizer={name: sgd, lr: 0.05}", "schedule={name: constant}")


class Picky(nn.Module):
    """No number comes of one picture, once it is known which."""

    wanted: Tensor | None = None

    def forward(self, given: Tensor) -> Tensor:
        if self.wanted is None:
            return given
        found = (given.flatten(1) == self.wanted.flatten()).all(1)
        return torch.where(found.view(-1, *[1] * (given.ndim - 1)), given * math.nan, given)


def picky(config: Config, channels: int, outputs: int, size: int) -> nn.Module:
    """In place of `Config.build`."""
    return nn.Sequential(Picky(), nn.Flatten(), Picky(), nn.Linear(channels * size * size, outputs))


def spoil(training: Training, epoch: int, step: int) -> None:
    """Let a picture of a batch that falls to the first of two processes go wrong late, and one of the other early."""
    order = entered(training).order[step * 8 :]
    network: Any = training.machine.learner.network
    for layer, place in ((network[0], 5), (network[2], 1)):
        pictures = torch.from_numpy(np.array(training.train.pictures[order[place : place + 1]]))
        layer.wanted = training.machine.learner.normalise(pictures)


def found_together(*changes: str) -> int:
    """Diverge in the second step, and leave the words for it in the current folder."""
    Config.build = picky  # type: ignore[method-assign]
    with training_of(params_of(Path.cwd(), *PLAIN, *changes)) as training:
        spoil(training, 0, 1)
        with pytest.raises(UserError) as error:
            finish_epochs(training)
        words = str(error.value).replace(str(training.checkpoints.folder), "FOLDER")
        assert set(training.ranks.all_of(words)) == {words}
        if training.ranks.first:
            shutil.copytree(training.checkpoints.folder / "diverged", "found")
            Path("words").write_text(words)
    return 0


@pytest.mark.parametrize("changes", [*SHARED, ("train.accumulation=2",)])
def test_they_find_what_one_would_and_keep_all_pictures(project: Path, alone: Path, changes) -> None:
    """So do the parts that a batch is computed in."""
    found_together()
    together(project, functools.partial(found_together, *changes), 2 if set(WHOLE) <= set(changes) else 1)
    mine, theirs = alone / "found", project / "found"
    assert (project / "words").read_text() == (alone / "words").read_text()
    assert (project / "words").read_text().splitlines() == [
        "train: diverged in epoch 1, step 2 of 5, at a learning rate of 0.05: the loss is nan, and the first layer "
        "that gives no numbers is 0.",
        "Its pictures, with the loss of each, and the norm of the gradient in each layer are in FOLDER/diverged; by "
        "themselves 2 of them have a loss that is no number.",
        "Lower optimizer.lr (it is 0.05) to what `convoy tune lr` proposes, set train.clip_norm: 1, or "
        "train.when_diverging: rollback.",
    ]
    assert sorted(path.name for path in theirs.iterdir()) == sorted(path.name for path in mine.iterdir())
    for path in mine.glob("*.png"):
        assert (theirs / path.name).read_bytes() == path.read_bytes()
    for table, number in (("pictures", "loss"), ("norms", "norm_before")):
        ours, others = (list(csv.DictReader((folder / f"{table}.csv").open())) for folder in (mine, theirs))
        for row, other in zip(ours, others, strict=True):
            assert float(row.pop(number)) == pytest.approx(float(other.pop(number)), rel=1e-5, nan_ok=True)
            assert row == other
    assert json.loads((theirs / "step.json").read_text()) == json.loads((mine / "step.json").read_text())


def one_has_no_number() -> int:
    """A weight of the last process alone, of which the others have another copy, or no part."""
    for changes in (WHOLE, PARTS):
        with training_of(params_of(Path.cwd(), *changes)) as training:
            weights: Any = next(training.machine.learner.parameters()).detach()
            for value, wrong in ((1e30, False), (math.inf, True)):
                if not training.ranks.first:
                    (weights.to_local() if changes is PARTS else weights).view(-1)[0] = value
                try:
                    check_weights(training.machine)
                    raised = False
                except Diverged:
                    raised = True
                assert training.ranks.all_of(raised) == [wrong, wrong]
    return 0


def test_of_a_weight_that_is_no_number_all_hear(project: Path) -> None:
    together(project, one_has_no_number)


def short_of_memory() -> int:
    """The second process has none left to ask each picture by itself."""

    def no_room(*asked: Any) -> np.ndarray:
        raise torch.OutOfMemoryError("no room")

    if os.environ["RANK"] == "1":
        divergence.losses_of_views = no_room
    return stage_train(apart)


@pytest.mark.slow
def test_what_keeps_one_from_looking_ends_all(project: Path) -> None:
    params = params_of(project, *BACK, *WHOLE)
    (project / "params.yaml").write_text(yaml.safe_dump(described(params), sort_keys=False))
    first, second = (one.ended() for one in begun_together(project, short_of_memory, 2))
    assert first.status == EXIT_DEFECT  # nobody watches who could say that it was left alone
    assert second.status in (UserError.status, TemporaryFailure.status)
    words = json.loads((project / "words-1").read_text())["message"]
    assert words.startswith("train: a look at where it diverged, beside a copy of the weights, does not fit into ")


BETWEEN = f"{TrainingPoint.CHECKPOINT_NAMED.value}:5"
"""The beginning and three epochs; then the first of the two with which they go back."""
GONE_BACK = f"{TrainingPoint.WENT_BACK.value}:1"
AGAIN = f"{TrainingPoint.WENT_BACK.value}:2"


def trained(folder: Path, point: str = "", rank: int = 0) -> list[Ended]:
    work = functools.partial(stage_train, apart, point, rank)
    return [one.ended() for one in begun_together(folder, work, 2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "deaths"),
    [(WHOLE, [(BETWEEN, 0), (AGAIN, 1)]), (PARTS, [(GONE_BACK, 0)])],
)
def test_one_killed_while_they_go_back_they_end_the_same(prepared: Path, tmp_path: Path, changes, deaths) -> None:
    unharmed = shutil.copytree(prepared, tmp_path / "unharmed")
    text = yaml.safe_dump(described(params_of(prepared, *BACK, *changes)), sort_keys=False)
    (unharmed / "params.yaml").write_text(text)
    killed = [shutil.copytree(unharmed, tmp_path / f"{point}-{rank}") for point, rank in deaths]
    for ended in trained(unharmed):
        assert ended.status == 0, ended.words
    for place, (point, rank) in zip(killed, deaths, strict=True):
        assert trained(place, point, rank)[rank].status == -9
        for ended in trained(place):
            assert ended.status == 0, ended.words
        assert left(place) == left(unharmed)
