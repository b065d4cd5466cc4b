"""Median absolute error: half of the answers are nearer to the truth. A few that are far off change nothing."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.numbers import NumberAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._numbers import errors, over_numbers


class Config(MetricConfig):
    """As scikit-learn's `median_absolute_error`, of a circular number the shorter way round; the mean over the numbers.

    Of one number, and of counts, in its own unit; of several numbers in deviations of the training pictures.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.NUMBERS, Target.COUNTS})
    title: ClassVar[str] = "Median absolute error"
    higher_is_better: ClassVar[bool] = False
    measured: ClassVar[bool] = True

    def score(self, answers: NumberAnswers, weights: np.ndarray) -> np.ndarray:
        """A number that is known of no image with weight is left out of the mean; nan where all are."""
        found = errors(answers)
        return over_numbers(np.stack([_medians(np.abs(one), answers, weights) for one in found.T], axis=1))


def _medians(values: np.ndarray, answers: NumberAnswers, weights: np.ndarray) -> np.ndarray:
    """The median of values [N] under weights [R, N]: the mean of the two in the middle, where half lies below."""
    known = np.flatnonzero(~np.isnan(values) & answers.counted)
    order = known[np.argsort(values[known], kind="stable")]
    sums = np.cumsum(weights[:, order], axis=1)
    if not len(order):
        return np.full(len(weights), np.nan)
    half = sums[:, -1:] / 2
    slack = half * 1e-12  # weights that are no whole numbers do not add up exactly
    lower, upper = (sums < half - slack).sum(axis=1), (sums <= half + slack).sum(axis=1)
    ranked = values[order]
    medians = (ranked[lower] + ranked[np.minimum(upper, len(ranked) - 1)]) / 2
    return np.where(half[:, 0] > 0, medians, np.nan)
