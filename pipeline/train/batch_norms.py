"""Layers that go by statistics of a batch: how much they need of it, and what they note of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pipeline.errors import UserError

SIGN = "Expected more than 1 value per channel when training"
"""What torch says where batch normalisation is given a single one: one picture, of which one pixel is left."""


def too_few(error: Exception) -> bool:
    """Whether an error says that a layer was given too little to normalise; a compiler has its own around it."""
    return SIGN in str(error)


def normalises(network: nn.Module) -> bool:
    """Whether it has batch normalisation."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def too_few_values(batch_size: int, images: int, parts: int, processes: int) -> UserError:
    """What there is to say then.

    Args:
        batch_size: images behind one step.
        images: that there are.
        parts: in which each process computes its share of a batch.
        processes: that train together.
    """
    share, pair = batch_size // processes, 2 * processes
    if share >= 2:
        remedy = f"Set train.accumulation: {share // 2} or less, or take"
    elif pair * parts <= images:
        remedy = f"Set train.batch_size: {pair * parts} or more, or take"
    elif pair <= images:
        remedy = f"Set train.batch_size: {pair} or more and train.accumulation: 1, or take"
    else:
        remedy = "Take"
    return UserError(
        "train: batch normalisation has one value per channel to go by, for pictures are computed one at a time, and "
        "one pixel is left of each.\n"
        f"{remedy} larger pictures (augment.size, train.first_size), or a model without batch normalisation."
    )


@contextmanager
def unnoted(module: nn.Module) -> Iterator[None]:
    """Leave what a module notes in buffers, such as the statistics of batch normalisation, as it is now.

    For a second look at the same pictures, with other weights. Values are put back, and the tensors stay: a compiled
    step may know them by their place in memory.
    """
    buffers = list(module.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, noted in zip(buffers, before, strict=True):
                buffer.copy_(noted)
