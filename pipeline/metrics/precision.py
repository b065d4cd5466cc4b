"""Precision: of the images said to be of a class, the share that are; the mean over classes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.answers.labels import LabelAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import macro, tally


class Config(MetricConfig):
    """Macro precision, as scikit-learn's `precision_score(average="macro", zero_division=0)`.

    The mean goes over the classes that are true or predicted for some image; one that is never predicted scores 0.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABEL})
    title: ClassVar[str] = "Precision"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: LabelAnswers, weights: np.ndarray) -> np.ndarray:
        """A class with no weight at all is left out of the mean; nan where all are."""
        actual, predicted, right = tally(answers, weights)
        return macro(ratio(right, predicted, 0), actual + predicted > 0)
