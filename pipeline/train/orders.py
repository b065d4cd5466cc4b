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

PLACES = ("shard", "row", "mask_shard", "mask_row")
"""Columns that say where an image lies: they are not proposed."""


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
    samples = split.samples
    able = [each for each in samples.column_names if _is_of_numbers(samples.column(each))]
    if name not in able:
        found = "the data set has no such column"
        if name in samples.column_names:
            column = samples.column(name)
            found = f"it holds values of type {column.type}"
            if column.null_count:
                found = f"{column.null_count:,} of {len(column):,} training images have no value there"
        proposed = ", ".join(each for each in able if each not in PLACES)
        raise UserError(
            f"params.yaml: order.column is {name!r}, but {found}.{did_you_mean(name, able)} Set it to a column that "
            f"holds a number for each training image ({proposed}), or order to shuffled."
        )
    values: np.ndarray = samples.column(name).to_numpy().astype(np.float64)[images]
    return values


def check_column(order: OrderConfig, split: Split) -> None:
    """Refuse a column that an order cannot go by, before any picture is packed for it.

    Args:
        order: with its options.
        split: the training split.

    Raises:
        UserError: see `column_of`.
    """
    if name := getattr(order, "column", ""):
        column_of(split, np.arange(len(split)), name)


def _is_of_numbers(column: pa.ChunkedArray) -> bool:
    return (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)) and not column.null_count


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
