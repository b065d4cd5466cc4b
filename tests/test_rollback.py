"""Going back, when it is killed or a file is damaged on the way: nothing that a checkpoint needs is ever missing."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from diverging import Faulty, seed_of
from engine_project import params_of, prepared, project, training, training_of

from pipeline.errors import UserError
from pipeline.failpoints import TrainingPoint
from pipeline.journal import ROLLBACK, read, standing
from pipeline.params import Params
from pipeline.train import checkpoint, rollback, saved, seen
from pipeline.train.assembly import Training
from pipeline.train.epochs import finish_epochs
from pipeline.train.generations import CURRENT, OLD
from pipeline.train.loop import Validation
from pipeline.train.outputs import facts_of
from pipeline.train.saved import opened

__all__ = ["prepared", "project", "training"]

EPOCHS, STEPS = 4, 2
"""Two steps an epoch: 40 pictures in batches of 20."""
ENDLESS = 1 << 60


def params_that_go_back(project: Path, *changes: str) -> Params:
    going_back = "train.when_diverging=rollback"
    return params_of(project, f"train.epochs={EPOCHS}", f"train.batch_size={40 // STEPS}", going_back, *changes)


def score_by_epoch(training: Training, scores: list[float]) -> None:
    """Let the network be worth so much after each epoch."""
    training.validated = lambda: Validation(1.0, scores[training.progress.epoch], None)  # type: ignore[method-assign]


def diverge(training: Training, plan: list[int]) -> None:
    """Let it diverge in these epochs, one after the other; after that it is killed in its next step."""

    def bad(progress: saved.Progress, _: int) -> bool:
        done = len(progress.rollbacks)
        if done == len(plan):
            raise KeyboardInterrupt
        return progress.epoch == plan[done]

    Faulty(training, bad)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def is_whole(training: Training) -> bool:
    """Whether every step of it is noted once, as if it had never gone back."""
    rows = standing(read(training.checkpoints.journal, 0)[0])
    steps = list(range(EPOCHS * STEPS))
    return (
        [row.step for row in rows if row.series == "step"]
        == steps
        == [record.step for record in seen.read(training.checkpoints.seen)]
    )


def test_the_best_weights_are_there_whenever_it_is_killed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both checkpoints need those of the first epoch, and so does the one that it goes back to."""
    with training_of(params_that_go_back(project)) as first:
        score_by_epoch(first, [0.9, 0.1, 0.1, 0.1])
        diverge(first, [3])
        link = os.link

        def dying(path: Path, name: Path) -> None:
            if Path(name).parent == first.checkpoints.folder:
                raise KeyboardInterrupt
            link(path, name)

        monkeypatch.setattr(os, "link", dying)
        with suppress(KeyboardInterrupt):
            finish_epochs(first)
        monkeypatch.undo()
    monkeypatch.chdir(project)
    with training_of(params_that_go_back(project)) as again:
        assert (again.progress.epoch, again.progress.best_epoch) == (3, 0)
        again.checkpoints.best(0)


@pytest.mark.parametrize("links", [True, False])
def test_a_name_is_given_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    path, name = tmp_path / "kept/best", tmp_path / "best"
    path.parent.mkdir()
    path.write_text("new")
    name.write_text("old")
    link, copy = os.link, shutil.copyfile

    def looked(work: Callable[..., Any]) -> Callable[..., None]:
        def looking(*paths: Path) -> None:
            assert name.read_text() == "old"
            if work is link and not links:
                raise OSError(errno.EPERM, "no second names here")
            work(*paths)

        return looking

    monkeypatch.setattr(os, "link", looked(link))
    monkeypatch.setattr(shutil, "copyfile", looked(copy))
    rollback._link(path, name)
    assert name.read_text() == "new"
    assert name.samefile(path) == links
    if links:
        rollback._link(path, name)  # which it has already
    assert {file.name for file in tmp_path.iterdir()} == {"kept", "best"}


def test_gone_back_there_is_an_older_checkpoint_that_can_be_used(project: Path) -> None:
    with training_of(params_that_go_back(project)) as first:
        score_by_epoch(first, [0.1, 0.2, 0.3, 0.4])
        diverge(first, [3, 3, 3])  # and goes back to 3, to 2 and to 1: to weights that no checkpoint holds on to
        with pytest.raises(KeyboardInterrupt):
            finish_epochs(first)
        folder = first.checkpoints.folder
        assert sorted(path.name for path in (folder / rollback.FOLDER).iterdir()) == ["00000", "00001"]
    damage(folder / CURRENT)
    with training_of(params_that_go_back(project)) as again:
        progress = again.progress
        assert (progress.epoch, progress.step, progress.best_epoch) == (1, 0, 0)
        assert [epoch for epoch, _ in progress.rollbacks] == [3, 3, 3]
        again.checkpoints.best(0)
        finish_epochs(again)
        assert is_whole(again)


def test_killed_between_the_two_that_it_writes_it_has_both_once_it_goes_on(project: Path) -> None:
    with training_of(params_that_go_back(project)) as first:
        diverge(first, [3])
        save = first.checkpoints.save

        def dying(*about: Any) -> None:
            save(*about)
            if first.progress.rollbacks:
                raise KeyboardInterrupt

        first.checkpoints.save = dying  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            finish_epochs(first)
        folder = first.checkpoints.folder
    assert (len(opened(folder / CURRENT).progress.rollbacks), len(opened(folder / OLD).progress.rollbacks)) == (1, 0)
    with training_of(params_that_go_back(project)) as second:
        diverge(second, [0])
        with pytest.raises(KeyboardInterrupt):
            finish_epochs(second)
    damage(folder / CURRENT)
    with training_of(params_that_go_back(project)) as third:
        assert (third.progress.epoch, len(third.progress.rollbacks)) == (3, 1)
        finish_epochs(third)
        assert is_whole(third)


def test_nothing_is_taken_back_before_both_are_written(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(point: TrainingPoint) -> None:
        if point is TrainingPoint.CHECKPOINT_WRITTEN:
            time.sleep(0.1)  # as long as a disk may take

    with training_of(params_that_go_back(project)) as training:
        diverge(training, [1])
        monkeypatch.setattr(checkpoint, "passing", slowly)
        folder, cut, held = training.checkpoints.folder, training.seen.cut, []

        def cutting(steps: int) -> None:
            held.extend([opened(folder / name).progress.rollbacks for name in (CURRENT, OLD)])
            assert not any(json.loads(line)["series"] == ROLLBACK for line in training.checkpoints.journal.open())
            cut(steps)

        training.seen.cut = cutting  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            finish_epochs(training)
        assert held == [[[1, 0]], [[1, 0]]]


def test_what_it_would_go_back_to_cannot_be_read(project: Path) -> None:
    with training_of(params_that_go_back(project)) as training:
        home = training.checkpoints.home
        kept = home / rollback.FOLDER / "00001" / CURRENT

        def bad(progress: saved.Progress, _: int) -> bool:
            if progress.epoch == 1:
                kept.unlink()  # it has another name, by which the step is looked for
                kept.write_bytes(b"")
            return progress.epoch == 1

        Faulty(training, bad)
        with pytest.raises(UserError) as error:
            finish_epochs(training)
        words, remedy = str(error.value).splitlines()
        assert words.startswith(f"train: {kept} cannot be read any more (")
        assert remedy == f"Test this machine's disk, then remove {home} and run again: it starts over."


def test_that_it_was_taken_up_elsewhere_is_not_forgotten(project: Path) -> None:
    """Not even where that was after the place that it goes back to."""
    with training_of(params_that_go_back(project)) as training:

        def bad(progress: saved.Progress, seed: int) -> bool:
            if progress.rollbacks or seed != seed_of(training, 2, 1):
                return False
            progress.moves = ["after epoch 3, step 1 of 2: threads: 1 then, 2 now"]
            return True

        Faulty(training, bad)
        finish_epochs(training)
        assert training.progress.rollbacks == [[2, 1]]
        assert facts_of(training)["moves"] == ["after epoch 3, step 1 of 2: threads: 1 then, 2 now"]


def test_it_stays_at_as_many_parts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = ("train.batch_size=8", "train.when_out_of_memory=halve")
    with training_of(params_that_go_back(project, *changes)) as training:

        def bad(progress: saved.Progress, seed: int) -> bool:
            if progress.epoch == 1 and training.machine.accumulation == 1:
                torch.empty(ENDLESS)
            return not progress.rollbacks and seed == seed_of(training, 1, 3)

        Faulty(training, bad)
        finish_epochs(training)
        assert training.progress.rollbacks == [[1, 3]]
        assert facts_of(training)["accumulation"] == 2
    assert capsys.readouterr().out.count("out of memory in epoch 2, step 1") == 1
