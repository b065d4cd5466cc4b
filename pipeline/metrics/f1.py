"""F1: the harmonic mean of a class's precision and recall; the mean over classes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.answers.labels import LabelAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import macro, tally


class Config(MetricConfig):
    """Macro F1, as scikit-learn's `f1_score(average="macro", zero_division=0)`.

    The mean goes over the classes that are true or predicted for some image.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABEL, Target.GRADE})
    title: ClassVar[str] = "F1"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: LabelAnswers, weights: np.ndarray) -> np.ndarray:
        """A class with no weight at all is left out of the mean; nan where all are."""
        actual, predicted, right = tally(answers, weights)
        return macro(ratio(2 * right, actual + predicted, 0), actual + predicted > 0)
