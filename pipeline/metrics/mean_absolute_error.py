"""Mean absolute error: how far an answer is from the truth, on average."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.numbers import NumberAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._numbers import errors, over_numbers, per_number


class Config(MetricConfig):
    """As scikit-learn's `mean_absolute_error`, of a circular number the shorter way round; the mean over the numbers.

    Of one number, and of counts, in its own unit; of several numbers in deviations of the training pictures.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.NUMBERS, Target.COUNTS})
    title: ClassVar[str] = "Mean absolute error"
    higher_is_better: ClassVar[bool] = False
    measured: ClassVar[bool] = True

    def score(self, answers: NumberAnswers, weights: np.ndarray) -> np.ndarray:
        """A number that is known of no image with weight is left out of the mean; nan where all are."""
        return over_numbers(per_number(np.abs(errors(answers)), answers, weights))
