"""The loop: it yields after every step, and whoever called it decides what to note, to save, and when to stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.answering import Answers
from pipeline.contracts import MetricConfig, TaskConfig, Views
from pipeline.dataset import Split
from pipeline.telling import Held
from pipeline.train.batches import Batch
from pipeline.train.copies import fetched
from pipeline.train.machine import Machine, Pace
from pipeline.train.norms import EVERY, Norms, gradient_norms


class Step(NamedTuple):
    """One step done."""

    position: int
    """Within the epoch, 0-based."""
    loss: Tensor
    """Mean over the batch, a scalar left on the device: reading it waits for the device."""
    learning_rate: float
    views: np.ndarray
    """What was learnt from: positions in the training split, int64 [B]."""
    norms: Norms | None
    """Of its gradient, of some steps."""


def train_epoch(machine: Machine, batches: Iterable[Batch], paces: Sequence[Pace], first: int = 0) -> Iterator[Step]:
    """Learn from each batch, and yield after it.

    Args:
        machine: moved in place; its network is in training mode.
        batches: from step `first` of the epoch on.
        paces: of every step of the epoch.
        first: index of the first batch.
    """
    for index, batch in enumerate(batches, start=first):
        pace = paces[index]
        loss = machine.backward(batch, pace.seed)
        measured = index % EVERY == 0 or index + 1 == len(paces)
        norms = gradient_norms(machine.learner) if measured else None
        machine.move(pace)
        assert batch.views is not None
        yield Step(index, loss, pace.rate, batch.views, norms)


class Score(NamedTuple):
    """What decides."""

    task: TaskConfig
    metric: MetricConfig


class Validation(NamedTuple):
    """What a network is worth on the validation split."""

    loss: float
    score: float
    answers: Answers | None
    """Of several processes the first one has them."""


def _found(loss: Tensor, weight: Tensor | float, answers: Tensor) -> tuple[float, float, np.ndarray]:
    """What a batch came to, on the processor, which waits for the device once."""
    costs, outputs, *weights = fetched([loss, answers.float(), *([weight] if isinstance(weight, Tensor) else [])])
    return costs.item(), float(weights[0] if weights else weight), outputs.numpy()


def validate(
    machine: Machine, batches: Iterable[tuple[Batch, bool]], split: Split, seen: Views, score: Score
) -> Validation:
    """Score the network as it stands on the validation split; several processes answer it in turn.

    Args:
        machine: with the network.
        batches: of the views of the split, those that this process has as `Ranks.dealt` deals them, in order.
        split: the truth.
        seen: the views.
        score: from answers to what they are worth.
    """
    ranks = machine.sharing.ranks
    ranks.give_buffers(machine.learner)
    machine.learner.eval()
    total, weights, outputs = 0.0, 0.0, Held(score.task, seen)
    with torch.inference_mode():
        for batch, counts in batches:
            with machine.arithmetic.autocast(machine.device):
                pictures, targets = batch.on(machine.device)
                loss, answers = machine.feed.validate(pictures, targets)
            found = _found(loss, machine.feed.weight(targets), answers)
            for cost, weight, told in ranks.gathered(found if counts else None):
                total += cost * weight
                weights += weight
                outputs.add(told)
    machine.sharing.let_go(machine.learner)
    answered: list[Answers] = []

    def scored() -> tuple[float, float]:
        answered.append(score.task.answers(split, outputs.told))
        return total / (weights or 1.0), float(score.metric.score(answered[0], np.ones((1, len(split))))[0])

    mean, worth = ranks.found(scored)
    return Validation(mean, worth, answered[0] if answered else None)
