"""What several metrics count, under R weightings of the images at once.

Sums go over images sorted by group, so their cost does not grow with the number of classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.answers.label_sets import LabelSetAnswers
from pipeline.answers.labels import LabelAnswers


class Tally(NamedTuple):
    """Weight of the images by class, each float64 [R, K]."""

    actual: np.ndarray
    """Of the images that are of the class."""
    predicted: np.ndarray
    """Of the images said to be of the class."""
    right: np.ndarray
    """Of the images that are both."""


def tally(answers: LabelAnswers, weights: np.ndarray) -> Tally:
    """Count true, predicted and rightly predicted images of each class; of equal probabilities the first class wins."""
    classes, hits = len(answers.classes), np.flatnonzero(answers.right)
    return Tally(
        actual=by_group(weights, answers.labels, classes),
        predicted=by_group(weights, answers.predicted, classes),
        right=by_group(weights[:, hits], answers.labels[hits], classes),
    )


def tally_sets(answers: LabelSetAnswers, weights: np.ndarray) -> Tally:
    """Likewise of images that are of any number of classes."""

    def weight_of(members: np.ndarray) -> np.ndarray:
        images, classes = np.nonzero(members)
        return by_group(weights[:, images], classes, len(answers.classes))

    return Tally(weight_of(answers.truth), weight_of(answers.chosen), weight_of(answers.truth & answers.chosen))


def by_group(weights: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Sum weights within groups.

    Args:
        weights: float64 [R, N].
        groups: the group of each image, int64 [N], each in 0..count-1.
        count: number of groups.

    Returns:
        float64 [R, count].
    """
    order = np.argsort(groups, kind="stable")
    present, starts = np.unique(groups[order], return_index=True)
    sums = np.zeros((len(weights), count))
    if len(present):
        sums[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean of values [N] under weights [R, N]: float64 [R], nan where the weights sum to 0."""
    total = weights.sum(axis=1)
    sums = np.einsum("rn,n->r", weights, values.astype(np.float64))  # no BLAS: its bits depend on its threads
    return ratio(sums, total, np.nan)


def macro(scores: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """The plain mean of scores [R, K] over the classes that are `counted`, bool [R, K]; nan where none is."""
    return ratio(np.where(counted, scores, 0).sum(axis=1), counted.sum(axis=1), np.nan)


def macro_one_vs_rest(
    one_vs_rest: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    answers: LabelAnswers | LabelSetAnswers,
    weights: np.ndarray,
) -> np.ndarray:
    """The mean over the classes of a score of each class against the others; a class whose score is nan is left out.

    Args:
        one_vs_rest: from scores [N], membership [N] and weights [N, R] to float64 [R].
        answers: to N images.
        weights: float64 [R, N].

    Returns:
        float64 [R]; nan where every class is left out.
    """
    rows = np.ascontiguousarray(weights.T)  # [N, R]: reordering images then copies whole rows
    probabilities, (members, _) = answers.probabilities, answers.by_class
    columns = [one_vs_rest(probabilities[:, k], members[:, k], rows) for k in range(len(answers.classes))]
    areas = np.stack(columns, axis=1)
    return macro(areas, ~np.isnan(areas))
