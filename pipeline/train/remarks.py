"""What is said of a training before it begins: it is allowed, and hardly ever what somebody wants."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.host import cores
from pipeline.params import TrainParams, part_name
from pipeline.train.processes.fitting import device_of
from pipeline.train.processes.place import place

ENOUGH = 0.8
"""Of the pictures an epoch should see, in full batches."""


def remarks(params: TrainParams, pictures: int) -> Iterator[str]:
    """Each in a line.

    Args:
        params: of the training.
        pictures: to learn from.

    Raises:
        UserError: there are fewer GPUs than processes.
    """
    size = params.train.batch_size
    if pictures < size:
        yield f"train.batch_size is {size:,}, but there are {pictures:,} pictures to learn from: an epoch is one step"
    elif (seen := pictures // size * size) < ENOUGH * pictures:
        yield (
            f"train.batch_size is {size:,}, of {pictures:,} pictures to learn from: batches are full ones, so an epoch "
            f"passes over {pictures - seen:,} pictures, each over others"
        )
    if params.order.by_class and getattr(params.loss, "class_weights", None) == "balanced":
        yield (
            f"order {part_name(params.order)!r} and loss.class_weights 'balanced' both make up for rare classes, which "
            "count twice over"
        )
    if params.model.begins_random:
        random = f"model {part_name(params.model)!r} starts from random weights"
        if params.layers.rate_decay < 1:
            yield f"layers.rate_decay is {params.layers.rate_decay}, but {random}: its first layers hardly learn"
        if params.ensemble.join == "soup":
            yield f"ensemble.join is 'soup', but {random}: means are for networks that begin with what they all share"
    here = place()
    if here and here.of > cores() and device_of(params.compute, here) == "cpu":
        yield (
            f"compute.processes is {here.of}, but there are {cores()} cores of the processor, for which they wait in "
            "turn: fewer are faster"
        )
