"""Which training pictures come when, as `order` of params says: a function of seed, epoch and what is known of them."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa

from pipeline.dataset import Split
from pipeline.errors import UserError, did_you_mean
from pipeline.train.batches import Material
from pipeline.train.learner import counted
from pipeline.training import Known, OrderConfig


def known_of(split: Split, material: Material) -> Known:
    """What an order may go by.

    Args:
        split: the training split.
        material: the same, as the loop reads it.
    """
    classes = material.targets if material.learns.one_class else None
    return Known(len(material), classes, functools.partial(column_of, split, material.images))


def column_of(split: Split, images: np.ndarray, name: str) -> np.ndarray:
    """The values of a column of numbers, float64 [V].

    Args:
        split: of N images.
        images: the image that each view shows, int64 [V].
        name: of the column in `samples.parquet`.

    Raises:
        UserError: there is no such column, or it holds something else, or nothing somewhere.
    """
    if name not in split.samples.column_names:
        raise UserError(
            f"params.yaml: order.column is {name!r}, but the data set has no such column."
            f"{did_you_mean(name, split.samples.column_names)} It has: {', '.join(split.samples.column_names)}."
        )
    column = split.samples.column(name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)) or column.null_count:
        found = f"{column.null_count} empty places" if column.null_count else f"values of type {column.type}"
        raise UserError(f"params.yaml: order.column {name!r} must hold a number for each image; found {found}.")
    values: np.ndarray = column.to_numpy().astype(np.float64)[images]
    return values


def epoch_order(config: OrderConfig, seed: int, epoch: int, epochs: int, known: Known) -> np.ndarray:
    """The views of an epoch in the order in which they are learnt from, int64 [V].

    Args:
        config: of the order.
        seed: of the run.
        epoch: 0-based.
        epochs: that there will be.
        known: of the V views.
    """
    random = np.random.Generator(np.random.PCG64(counted(seed, "order", epoch)))
    return config.order(random, epoch, epochs, known)
