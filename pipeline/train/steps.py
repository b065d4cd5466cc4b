"""From where a training stands to the end of its epoch: for whoever notes the steps, and for whoever takes them again.

Randomness is counted, so the same steps from the same checkpoint are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import islice
from typing import NamedTuple

import numpy as np

from pipeline.train.assembly import Training
from pipeline.train.feeding import feed
from pipeline.train.loop import Step, paces_of, train_epoch
from pipeline.train.losses_of_views import known_now
from pipeline.train.machine import Pace
from pipeline.train.orders import epoch_order
from pipeline.train.sizes import side_of


class Way(NamedTuple):
    """How the steps of an epoch are taken, all of them."""

    paces: list[Pace]
    order: np.ndarray
    """The views in the order in which they are learnt from, int64 [V]."""


def entered(training: Training) -> Way:
    """Make everything ready for the epoch where the training stands."""
    params, progress = training.params, training.progress
    epoch, epochs = progress.epoch, params.train.epochs
    rate = params.optimizer.lr * progress.rate_scale
    training.machine.enter(epoch)
    feed(training)
    training.known = known_now(training)
    training.machine.learner.side = side_of(params.train, training.policy.size, epoch)
    return Way(
        paces_of(params.schedule, rate, epoch, training.batches.steps, epochs, progress.worths),
        epoch_order(params.order, params.seed, epoch, epochs, training.known),
    )


def rest_of_epoch(training: Training) -> Generator[Step]:
    """Learn step by step to the end of the epoch where the training stands; its progress is the caller's to move."""
    progress, way = training.progress, entered(training)
    seed, epoch = training.params.seed, progress.epoch
    source = training.features.train if training.features else training.batches
    with closing(source.epoch(epoch, progress.step, way.order)) as batches:  # type: ignore[type-var]
        yield from train_epoch(training.machine, batches, way.paces, seed, epoch, progress.step)


def go_back(training: Training) -> None:
    """Stand where the latest checkpoint was made; there is one from the first step on."""
    saved = training.checkpoints.latest(training.batches.steps)
    assert saved is not None
    training.machine.restore(saved.state)
    training.progress = saved.progress


def retake(training: Training) -> None:
    """Stand again where the progress says, whatever a failed step has left: those since a checkpoint are retaken."""
    aim = training.progress
    go_back(training)
    assert training.progress.epoch == aim.epoch  # each one ends with a checkpoint
    with closing(rest_of_epoch(training)) as steps:
        for _ in islice(steps, aim.step - training.progress.step):
            pass
    training.progress = aim
