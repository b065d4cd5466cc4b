"""Balanced accuracy: the mean over classes of the share of their images that are recognised.

Source: Brodersen, Ong, Stephan, Buhmann. The Balanced Accuracy and Its Posterior Distribution, 2010.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.answers.labels import LabelAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import macro, tally


class Config(MetricConfig):
    """Mean recall over the classes that have images, as scikit-learn's `balanced_accuracy_score`."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABEL, Target.GRADE})
    title: ClassVar[str] = "Balanced accuracy"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: LabelAnswers, weights: np.ndarray) -> np.ndarray:
        """A class without weight is left out of the mean; nan where all are."""
        actual, _, right = tally(answers, weights)
        return macro(ratio(right, actual, 0), actual > 0)
