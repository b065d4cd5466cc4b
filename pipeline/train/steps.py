"""From where a training stands to the end of its epoch: for whoever notes the steps, and for whoever takes them again.

Randomness is counted, so the same steps from the same checkpoint are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import islice
from typing import NamedTuple

import numpy as np

from pipeline.errors import UserError
from pipeline.params import TrainParams
from pipeline.train.assembly import Training
from pipeline.train.feeding import feed
from pipeline.train.learner import counted
from pipeline.train.loop import Step, train_epoch
from pipeline.train.losses_of_views import known_now
from pipeline.train.machine import Pace
from pipeline.train.orders import epoch_order
from pipeline.train.saved import Progress
from pipeline.train.shortage import enough_for
from pipeline.train.sizes import side_of
from pipeline.training import Course


class Way(NamedTuple):
    """How the steps of an epoch are taken, all of them."""

    paces: list[Pace]
    order: np.ndarray
    """The views in the order in which they are learnt from, int64 [V]."""


def entered(training: Training) -> Way:
    """Make everything ready for the epoch where the training stands.

    Raises:
        UserError: what is learnt from is made by the network, and that does not fit into memory.
    """
    params, progress = training.params, training.progress
    epoch, epochs = progress.epoch, params.train.epochs
    training.machine.enter(epoch)
    with enough_for(f"a look at every training picture before epoch {epoch + 1}", "Lower train.batch_size."):
        feed(training)
        training.known = known_now(training)
    training.machine.learner.side = side_of(params.train, training.policy.size, epoch)
    training.machine.learn()  # what went before may have asked the network
    return Way(
        paces_of(params, progress, training.batches.steps),
        epoch_order(params.order, params.seed, epoch, epochs, training.known),
    )


def paces_of(params: TrainParams, progress: Progress, steps: int) -> list[Pace]:
    """How the steps of the epoch where a training stands are taken, all of them.

    What is random in a step is a function of (seed, epoch, step), so no generator has to be saved.
    """
    schedule, epoch, paces = params.schedule, progress.epoch, []
    base = params.optimizer.lr * progress.rate_scale
    for index in range(steps):
        at = Course(epoch * steps + index, steps, params.train.epochs, progress.worths)
        seed = counted(params.seed, "step", epoch, index)
        paces.append(Pace(base * schedule.factor(at), schedule.momentum(at), at.step, seed))
    return paces


def rest_of_epoch(training: Training) -> Generator[Step]:
    """Learn step by step to the end of the epoch where the training stands; its progress is the caller's to move."""
    progress, way = training.progress, entered(training)
    with closing(training.source.epoch(progress.epoch, progress.step, way.order)) as batches:  # type: ignore[type-var]
        yield from train_epoch(training.machine, batches, way.paces, progress.step)


def go_back(training: Training) -> None:
    """Stand where the latest checkpoint was made; there is one from the first step on.

    The process that writes them reads first, once the last one has its name, and so the others find the same one.

    Raises:
        UserError: none of them can be read any more.
    """
    saved = training.ranks.in_turn(lambda: training.checkpoints.latest(training.batches.steps))
    if saved is None:
        raise UserError(
            "train: no checkpoint can be read any more, so there is nothing to go back to.\n"
            "Test this machine's disk, then run again: it starts over."
        )
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
