"""float16, whose gradients overflow now and then: what its scale is, and what is said of steps that it skips."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from engine_project import flat, params_of, prepared, project, training_of

from pipeline.journal import read
from pipeline.train.assembly import Training
from pipeline.train.epochs import finish_epochs
from pipeline.train.norms import warning
from pipeline.train.steps import entered

__all__ = ["prepared", "project"]

HALF = "compute.precision=float16"


def gradient(training: Training) -> torch.Tensor:
    """That of its first step."""
    batches = training.batches.epoch(0, 0, entered(training).order)
    training.machine.backward(next(batches), 0)
    batches.close()  # type: ignore[attr-defined]
    return flat([weights.grad for weights in training.machine.learner.parameters() if weights.grad is not None])


def test_a_gradient_is_that_of_the_loss_whatever_the_scale_is(project: Path) -> None:
    """Clipping and norms go by it."""
    with training_of(params_of(project)) as whole:
        wanted = gradient(whole)
    with training_of(params_of(project, HALF)) as half:
        found = gradient(half)
        assert half.machine.scaler.get_scale() == 2.0**16
    assert (found - wanted).norm() < 0.05 * wanted.norm()


def test_the_scale_goes_on_from_a_checkpoint(project: Path) -> None:
    params = params_of(project, HALF, "train.epochs=1")
    with training_of(params) as first:
        loud(first)
        finish_epochs(first)
        scaler = first.machine.scaler.state_dict()
    assert scaler["scale"] < 2.0**16
    with training_of(params) as again:
        assert again.machine.scaler.state_dict() == scaler


def loud(training: Training) -> None:
    """Let its first gradient overflow at the scale that float16 begins with."""
    with torch.no_grad():
        for weights in training.machine.learner.network.parameters():
            if weights.ndim > 1:
                weights.mul_(48)


def test_a_first_step_that_overflows_is_no_measure_of_those_after_it(project: Path) -> None:
    with training_of(params_of(project, HALF, "train.epochs=1")) as training:
        loud(training)
        finish_epochs(training)
        first, journal = training.progress.first_norms, training.checkpoints.journal
    measured = [row for row in read(journal, 0)[0] if row.series == "gradient"]
    assert [("gradient_norm/all" in row.values) for row in measured] == [False, True]
    assert first == {name.partition("/")[2]: norm for name, norm in measured[1].values.items()}
    assert all(map(math.isfinite, first.values()))
    assert warning(first, [{"all": 1e9}]).startswith("the gradient explodes: its norm has grown from ")


def test_the_journal_is_json_whatever_comes_of_a_step(project: Path) -> None:
    with training_of(params_of(project, HALF, "train.epochs=1")) as training:
        loud(training)
        finish_epochs(training)

    def refused(name: str) -> Any:
        raise AssertionError(name)

    lines = training.checkpoints.journal.read_text().splitlines()
    assert [json.loads(line, parse_constant=refused)["series"] for line in lines].count("step") == 5
