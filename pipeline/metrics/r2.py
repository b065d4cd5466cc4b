"""R2: the share of the variance of what is true that the answers explain; 1 at best, below 0 where they are worse than
the mean of what is true.

Source: Draper, Smith. Applied Regression Analysis, 1998, chapter 1.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.numbers import NumberAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._numbers import over_numbers


class Config(MetricConfig):
    """As scikit-learn's `r2_score`, the mean over the numbers, in their own units also where logarithms are learnt.

    Of a circular number the distances from its mean direction take the place of those from its mean.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.NUMBERS, Target.COUNTS})
    title: ClassVar[str] = "R2"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: NumberAnswers, weights: np.ndarray) -> np.ndarray:
        """A number that does not vary among the images with weight is left out of the mean; nan where none does."""
        return over_numbers(answers.explained(weights * answers.counted))
