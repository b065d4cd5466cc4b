"""What a network says of the views of a picture, as one answer."""

from __future__ import annotations

import numpy as np

from pipeline.contracts import Views


def softmax(logits: np.ndarray) -> np.ndarray:
    """The softmax of logits [N, K] in float64 [N, K]; rows sum to 1, or are nan where a logit is no finite number."""
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of a network that diverges: infinity less infinity
        powers = np.exp(wide - wide.max(axis=1, keepdims=True))  # the largest is 1: nothing overflows
    shares: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return shares


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """The sigmoid of logits [N, K] in float64 [N, K]."""
    power = np.exp(-np.abs(logits.astype(np.float64)))  # at most 1: nothing overflows
    shares: np.ndarray = np.where(logits >= 0, 1.0, power) / (1 + power)
    return shares


def mean_of_views(values: np.ndarray, views: Views) -> list[np.ndarray]:
    """Of each image the mean over its views: float64 [V, K] to N rows float64 [K]."""
    if len(views.images) > len(views.sizes):
        firsts = np.searchsorted(views.images, np.arange(len(views.sizes)))
        sums = np.add.reduceat(values, firsts, axis=0)
        values = sums / np.diff(firsts, append=len(values))[:, None]
    return list(values)
