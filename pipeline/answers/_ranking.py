"""How well scores put the images of one class before the others, under R weightings of the images at once."""

from __future__ import annotations

import numpy as np

from pipeline.answers._ratio import ratio


def average_precision(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean, over the images of one class, of the precision among the images that score at least as high.

    As scikit-learn's `average_precision_score`: the area under the precision-recall curve, without interpolation.

    Args:
        scores: float64 [N].
        positive: whether an image is of the class, bool [N].
        weights: float64 [N, R].

    Returns:
        float64 [R]; nan where the class has no weight.
    """
    if not positive.any():
        return np.full(weights.shape[1], np.nan)
    order = np.argsort(-scores, kind="stable")
    ranked, own = -scores[order], -scores[order[positive[order]]]  # ascending: the surest image first
    mine = weights[order[positive[order]]]
    # Of images that score alike, each sees all: the last of them tells how much weight scores at least as high.
    found = np.cumsum(mine, axis=0)[np.searchsorted(own, own, side="right") - 1]
    everyone = np.cumsum(weights[order], axis=0)[np.searchsorted(ranked, own, side="right") - 1]
    precision = ratio(found, everyone, 0)
    return ratio(np.einsum("nr,nr->r", mine, precision), mine.sum(axis=0), np.nan)


def precision_at(scores: np.ndarray, positive: np.ndarray, recalls: np.ndarray) -> np.ndarray:
    """The highest precision at each recall or a higher one: float64, as long as `recalls`; some image is positive."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # images that score alike make one step
    found = np.cumsum(positive[order])[last]
    highest = np.maximum.accumulate((found / (last + 1))[::-1])[::-1]
    # The first step that reaches a recall; a shade less counts as reached, for shares of images are rounded.
    steps = np.searchsorted(found, recalls * positive.sum() - 1e-9)
    precision: np.ndarray = highest[np.minimum(steps, len(highest) - 1)]
    return precision


def best_threshold(scores: np.ndarray, positive: np.ndarray, otherwise: float) -> float:
    """Where to cut scores so that F1 is highest: halfway between the last score above the cut and the first below it.

    Args:
        scores: in 0..1, float64 [N].
        positive: whether an image is of the class, bool [N].
        otherwise: the threshold where no image is positive, or any image is no better than another; of cuts that are
            equally good the nearest to it is taken.
    """
    if not positive.any():
        return otherwise
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.flatnonzero(np.diff(ranked, append=-np.inf))
    found = np.cumsum(positive[order])[last]
    f1 = 2 * found / (last + 1 + positive.sum())
    below = np.append(ranked[last][1:], 0.0)
    cuts = (ranked[last] + below) / 2
    best = np.flatnonzero(f1 == f1.max())
    return float(cuts[best[np.abs(cuts[best] - otherwise).argmin()]])
