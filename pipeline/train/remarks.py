"""What is said of a training before it begins: it is allowed, and hardly ever what somebody wants."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipeline.host import cores
from pipeline.params import TrainParams, part_name
from pipeline.policy import Policy
from pipeline.train.batches import mosaic_epochs, steps_per_epoch
from pipeline.train.processes.fitting import device_of
from pipeline.train.processes.place import place
from pipeline.train_options import TrainOptions

ENOUGH = 0.8
"""Of the pictures an epoch should see, in full batches."""


def remarks(params: TrainParams, policy: Policy, pictures: int) -> Iterator[str]:
    """Each in a line.

    Args:
        params: of the training.
        policy: by which pictures are varied.
        pictures: to learn from; of tiles, these.

    Raises:
        UserError: there are fewer GPUs than processes.
    """
    yield from _of_batches(params.train.batch_size, pictures)
    yield from _of_course(params, pictures)
    yield from _of_pictures(params, policy)
    yield from _of_weights(params)
    yield from _of_cores(params)


def _of_batches(size: int, pictures: int) -> Iterator[str]:
    if pictures < size:
        yield f"train.batch_size is {size:,}, but there are {pictures:,} pictures to learn from: an epoch is one step"
    elif (seen := pictures // size * size) < ENOUGH * pictures:
        yield (
            f"train.batch_size is {size:,}, of {pictures:,} pictures to learn from: batches are full ones, so an epoch "
            f"passes over {pictures - seen:,} pictures, others each time"
        )


def _of_course(params: TrainParams, pictures: int) -> Iterator[str]:
    """Of what a training is too short for."""
    options, schedule, epochs = params.train, params.schedule, params.train.epochs
    longest, climbing = schedule.falls_at * epochs / 2, getattr(schedule, "warmup_epochs", None) or 0
    if climbing > longest:
        yield (
            f"schedule.warmup_epochs is {climbing:g}, but the rate may climb for half of the epochs before it falls: "
            f"it does for {longest:g}; set that, or train.epochs to {math.ceil(2 * climbing / schedule.falls_at)}"
        )
    if idle := schedule.idle(epochs, options.patience):
        yield f"schedule {part_name(schedule)!r} {idle}"
    if options.patience >= max(1, epochs - 1):
        less = f"less than {epochs - 1}, or to " if epochs > 2 else ""
        yield (
            f"train.patience is {options.patience}, but no more than {epochs - 1} epochs can follow the best: it never "
            f"stops early; set it to {less}0"
        )
    if idle := params.average.idle(steps_per_epoch(pictures, options.batch_size) * epochs):
        yield f"average {part_name(params.average)!r} {idle}"


def _of_pictures(params: TrainParams, policy: Policy) -> Iterator[str]:
    """Of the way in which pictures come."""
    options = params.train
    if policy.mosaic and not mosaic_epochs(options.epochs):
        yield "augment has mosaics, but the last epoch sees none, and there is one; set train.epochs to 2 or more"
    usual = TrainOptions.model_fields["full_size_from"].default
    if options.full_size_from != usual and not options.first_size:
        yield (
            f"train.full_size_from is {options.full_size_from:g}, but train.first_size is 0: no pictures grow; set "
            "that to the side to begin with"
        )
    if params.order.by_class and getattr(params.loss, "class_weights", None) == "balanced":
        yield (
            f"order {part_name(params.order)!r} and loss.class_weights 'balanced' both make up for rare classes, which "
            "count twice over"
        )
    if params.loss.compares and params.order.in_a_row == 1:
        yield (
            f"loss {part_name(params.loss)!r} compares pictures of one class in a batch, and order "
            f"{part_name(params.order)!r} brings them there by chance: order 'runs' sees to it"
        )


def _of_weights(params: TrainParams) -> Iterator[str]:
    """Of what goes by weights that a network brings along."""
    if not params.model.begins_random:
        return
    random = f"model {part_name(params.model)!r} starts from random weights"
    if params.layers.rate_decay < 1:
        yield f"layers.rate_decay is {params.layers.rate_decay}, but {random}: its first layers hardly learn"
    if params.ensemble.join == "soup":
        yield f"ensemble.join is 'soup', but {random}: means are for networks that begin with what they all share"


def _of_cores(params: TrainParams) -> Iterator[str]:
    compute, here = params.compute, place()
    count = here.of if here else 1
    if here and count > cores() and device_of(compute, here) == "cpu":
        yield (
            f"compute.processes is {count}, but there are {cores()} cores of the processor, for which they wait in "
            "turn: fewer are faster"
        )
    elif compute.threads * count > cores():
        each = f" in each of {count} processes" if count > 1 else ""
        yield (
            f"compute.threads is {compute.threads}{each}, but there are {cores()} cores of the processor, for which "
            "they wait in turn; set it to 0"
        )
