"""Mean absolute percentage error: how far an answer is from the truth, as a share of it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.numbers import NumberAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._numbers import over_numbers, per_number


class Config(MetricConfig):
    """As scikit-learn's `mean_absolute_percentage_error` where nothing true is 0; the mean over the numbers.

    0.25 is a quarter of the truth away. What is truly 0 is no basis for a share, and left out; a circular number has
    no size and is left out too.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.NUMBERS, Target.COUNTS})
    title: ClassVar[str] = "Mean absolute percentage error"
    higher_is_better: ClassVar[bool] = False

    def score(self, answers: NumberAnswers, weights: np.ndarray) -> np.ndarray:
        """A number that is known of no image with weight is left out of the mean; nan where all are."""
        shares = np.full_like(answers.errors, np.nan)
        np.divide(np.abs(answers.errors), np.abs(answers.truth), out=shares, where=answers.truth != 0)
        shares[:, [scale.kind == "circular" for scale in answers.scales]] = np.nan
        return over_numbers(per_number(shares, answers, weights))
