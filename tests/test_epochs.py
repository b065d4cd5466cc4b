"""What comes of each epoch's score, and what is left of a training after the last one."""

from __future__ import annotations

import gc
import math
import weakref
from pathlib import Path

import pytest
import torch
from engine_project import params_of, prepared, project, training, training_of
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.journal import read
from pipeline.train.assembly import Training
from pipeline.train.ensemble import kept
from pipeline.train.epochs import finish_epochs
from pipeline.train.loop import Validation
from pipeline.train.steps import rest_of_epoch

__all__ = ["prepared", "project", "training"]

STEPS = 5
"""Of an epoch."""


def scored(training: Training, *worth: tuple[float, float]) -> Training:
    """The same, which finds its network to be worth so much after each epoch: score and loss."""

    def validated() -> Validation:
        score, loss = worth[training.progress.epoch]
        return Validation(loss, score, None)

    training.validated = validated  # type: ignore[method-assign]
    return training


@pytest.mark.parametrize(
    ("worth", "best", "epochs"),
    [
        ([(0.5, 1.0), (0.5, 0.9), (0.5, 0.95), (0.4, 0.1), (0.9, 0.1)], 1, 4),  # of equal scores the lower loss
        ([(0.5, 1.0), (0.4, 1.0), (0.6, 1.0), (0.6, 1.0), (0.6, 1.0), (0.9, 1.0)], 2, 5),  # of equal ones the first
        ([(0.9, math.nan), (0.2, 1.0), (0.95, math.inf), (0.3, 1.0)], 3, 4),  # what has no loss has no score
        ([(0.1, 1.0), (math.nan, 0.1), (0.2, 9.0), (0.3, 9.0), (0.1, 0.1)], 3, 5),
    ],
)
def test_the_best_epoch_is_kept_and_patience_counts_from_it(
    project: Path, worth: list[tuple[float, float]], best: int, epochs: int
) -> None:
    most = f"train.epochs={len(worth)}"
    with training_of(params_of(project, "train.batch_size=40", "train.patience=2", most)) as training:
        finish_epochs(scored(training, *worth))
        assert (training.progress.best_epoch, training.progress.epoch) == (best, epochs)
        assert (training.progress.best_score, training.progress.best_loss) == worth[best]


def test_a_loss_that_is_no_number_is_told_once_also_after_a_restart(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = params_of(project, "train.batch_size=40", "train.epochs=4")
    worth = [(0.5, 1.0), (0.9, math.nan), (0.9, math.inf), (0.6, 1.0)]
    with training_of(params) as training:
        finish_epochs(scored(training, *worth))
        assert training.progress.best_epoch == 3
        restarted = training.checkpoints.latest(training.batches.steps)
    assert restarted is not None and restarted.progress.doubted
    said = [line for line in capsys.readouterr().out.splitlines() if "no number" in line]
    assert said == [
        "train: a validation loss that is no number counts as the worst of all, whatever the score beside it; lower "
        "optimizer.lr or set train.clip_norm"
    ]


def test_a_plateau_is_told_the_scores(project: Path) -> None:
    plateau = "schedule={name: plateau, warmup_epochs: 0, patience: 1, leaves: 0.5}"
    with training_of(params_of(project, plateau, "train.epochs=5", "optimizer={name: sgd, lr: 0.01}")) as training:
        finish_epochs(scored(training, *[(score, 1.0) for score in (0.1, 0.2, 0.2, 0.2, 0.3)]))
        rows = [row for row in read(training.checkpoints.journal, 0)[0] if row.series == "step"]
    rates = [row.values["train/learning_rate"] for row in rows]
    assert rates == [0.01] * 4 * STEPS + [0.005] * STEPS  # the fourth score is the second that is no better


def test_no_checkpoint_holds_weights_that_are_no_numbers(project: Path) -> None:
    """A single step an epoch: its loss is a number, and the weights that it leads to are not."""
    wild = ("optimizer={name: sgd, lr: 1e39}", "schedule={name: constant}", "train.batch_size=40")
    with training_of(params_of(project, *wild)) as training:
        with pytest.raises(UserError) as error:
            finish_epochs(training)
        saved = training.checkpoints.latest(1)
    assert "diverged in epoch 1, step 1 of 1" in str(error.value)
    assert "its gradient is finite, but the weights that it leads to are not" in str(error.value)
    assert saved is not None and saved.progress.epoch == 0
    assert all(tensor.isfinite().all() for tensor in saved.state["learner"].values())


def test_learning_goes_on_with_its_own_weights_after_the_average_was_validated(project: Path) -> None:
    with training_of(params_of(project, "average={name: ema}")) as training:
        for _ in rest_of_epoch(training):
            pass
        network = training.machine.learner.network
        own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with training.machine.averaged():
            averaged = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        assert any(not torch.equal(averaged[name], tensor) for name, tensor in own.items())
        training.validated()
        assert all(torch.equal(tensor, own[name]) for name, tensor in network.state_dict().items())


class Faint(nn.Module):
    """Adds next to nothing, so that next to no gradient comes to its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor) -> Tensor:
        return logits + 1e-12 * self.weight


@pytest.mark.parametrize(("batch", "told"), [(40, 2), (8, 1)])
def test_a_gradient_that_vanishes_is_told_in_short_epochs_too(
    project: Path, capsys: pytest.CaptureFixture[str], batch: int, told: int
) -> None:
    """In the first epoch, if its only step is not the very first one of all, which shows nothing yet."""
    with training_of(params_of(project, f"train.batch_size={batch}")) as training:
        training.machine.learner.network.append(Faint())  # type: ignore[operator]
        finish_epochs(training)
    said = capsys.readouterr().out
    assert said.count("train: the gradient vanishes in layer 12: all epoch it is under") == 1
    assert said.index(f"epoch   {told}/3") < said.index("vanishes") < said.index(f"epoch   {told + 1}/3")


def test_what_only_learning_needs_is_let_go_of_and_the_best_weights_are_kept(training: Training) -> None:
    finish_epochs(training)
    machine, network = training.machine, training.machine.learner.network
    machine.module = machine._called = nn.Sequential(machine.learner)  # as a compiler makes another of it
    program, pictures = weakref.ref(machine.module), weakref.ref(training.batches._ring[0].pictures)  # type: ignore[union-attr]
    with torch.no_grad():
        next(network.parameters()).add_(1)  # as an epoch does that is worse than the best one
    assert machine.optimizer.state and any(weights.grad is not None for weights in network.parameters())
    training.close()
    found = kept(training).network
    gc.collect()
    assert (program(), pictures()) == (None, None)
    assert not machine.optimizer.state and all(weights.grad is None for weights in network.parameters())
    best = training.checkpoints.best(training.progress.best_epoch)
    assert all(torch.equal(tensor, best[name]) for name, tensor in found.state_dict().items())
