"""Accuracy: the share of images whose most probable class is the true one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.labels import LabelAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import mean


class Config(MetricConfig):
    """Top-1 accuracy, as scikit-learn's `accuracy_score`; of equal probabilities the first class wins."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABEL, Target.GRADE})
    title: ClassVar[str] = "Accuracy"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: LabelAnswers, weights: np.ndarray) -> np.ndarray:
        """Weight of the right images over the weight of all; nan where that is 0."""
        return mean(answers.right, weights)
