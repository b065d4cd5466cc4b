"""Brier score: the squared distance of the probabilities from the truth, 0 at best and 2 at worst.

Source: Brier. Verification of Forecasts Expressed in Terms of Probability, 1950, equation 2.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.labels import LabelAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import mean


class Config(MetricConfig):
    """Summed over the classes, averaged over the images, as scikit-learn's `brier_score_loss(scale_by_half=False)`."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABEL, Target.GRADE})
    title: ClassVar[str] = "Brier score"
    higher_is_better: ClassVar[bool] = False

    def score(self, answers: LabelAnswers, weights: np.ndarray) -> np.ndarray:
        """Mean over the weighted images; nan where the weights sum to 0."""
        probabilities = answers.probabilities
        truth = probabilities[np.arange(len(answers)), answers.labels]
        squared = np.einsum("nk,nk->n", probabilities, probabilities) - truth**2 + (1 - truth) ** 2
        return mean(squared, weights)
