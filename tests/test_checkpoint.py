"""Which checkpoint a training goes on from, and when another one is begun."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
import torch
from engine_project import params_of, prepared, project, training, training_of

from pipeline.failpoints import TrainingPoint
from pipeline.train import checkpoint
from pipeline.train.assembly import Training
from pipeline.train.epochs import finish_epochs
from pipeline.train.generations import CURRENT

__all__ = ["prepared", "project", "training"]


def better(training: Training, epoch: int) -> dict[str, torch.Tensor]:
    """Save an epoch that is the best so far; the weights that are kept of it."""
    machine, progress, checkpoints = training.machine, training.progress, training.checkpoints
    with torch.no_grad():
        next(machine.learner.parameters()).add_(1)
    progress.best_epoch = epoch
    checkpoints.keep_best(machine, epoch)
    checkpoints.save(machine, progress)
    checkpoints.wait()
    return {name: tensor.clone() for name, tensor in machine.weights().items()}


def test_the_older_checkpoint_has_its_best_weights(training: Training) -> None:
    checkpoints, older, _ = training.checkpoints, *[better(training, epoch) for epoch in range(2)]
    newest = checkpoints.folder / CURRENT
    newest.write_bytes(newest.read_bytes()[:1000])
    found = checkpoints.latest(training.batches.steps)
    assert found is not None
    assert found.progress.best_epoch == 0
    kept = checkpoints.best(0)
    assert all(torch.equal(kept[name], tensor) for name, tensor in older.items())


def test_what_neither_checkpoint_needs_goes(training: Training) -> None:
    checkpoints = training.checkpoints
    for epoch in range(3):
        better(training, epoch)
    left = sorted(path.name for path in checkpoints.folder.glob("best-*"))
    assert left == ["best-00001.safetensors", "best-00002.safetensors"]


def test_a_checkpoint_that_is_ahead_of_its_journal_gives_way(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = params_of(project, "train.epochs=1")
    with training_of(params) as first:
        finish_epochs(first)
        journal = first.checkpoints.journal
    lines = [line for line in journal.read_text().splitlines(keepends=True) if '"series": "step"' in line]
    assert len(lines) == 5
    journal.write_text("".join(lines[:-1]))
    with training_of(params) as again:
        assert (again.progress.epoch, again.progress.step) == (0, 0)
    assert f"train: {CURRENT} cannot be used without the journal of its steps" in capsys.readouterr().out


def test_none_is_due_while_one_is_being_written(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Event()

    def slowly(point: TrainingPoint) -> None:
        if point is TrainingPoint.CHECKPOINT_BEGUN:
            written.wait()

    monkeypatch.setattr(checkpoint, "passing", slowly)
    training.checkpoints.save(training.machine, training.progress)
    try:
        assert not training.checkpoints.due(1e-6)  # or training would wait for the disk to begin it
    finally:
        written.set()
    training.checkpoints.wait()
    assert training.checkpoints.due(1e-6)
    assert not training.checkpoints.due(1000)
