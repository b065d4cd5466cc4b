"""Grade error: how many classes the answer lies from the true one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.grades import GradeAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import mean


class Config(MetricConfig):
    """The mean over images, as scikit-learn's `mean_absolute_error` of class ids; 0 at best."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.GRADE})
    title: ClassVar[str] = "Grade error"
    higher_is_better: ClassVar[bool] = False

    def score(self, answers: GradeAnswers, weights: np.ndarray) -> np.ndarray:
        """The weighted mean; nan where the weights sum to 0."""
        return mean(answers.apart, weights)
