"""Pixel accuracy: the share of known pixels whose class is rightly said; large classes decide it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.answers.masks import MaskAnswers
from pipeline.contracts import MetricConfig, Target


class Config(MetricConfig):
    """Over the pixels of all images, as scikit-learn's `accuracy_score` of them; void pixels count for nothing."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.MASK})
    title: ClassVar[str] = "Pixel accuracy"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: MaskAnswers, weights: np.ndarray) -> np.ndarray:
        """Weight of the right pixels over the weight of all; nan where that is 0."""
        pixels = answers.summed(weights)
        return ratio(pixels.both.sum(axis=1), pixels.true.sum(axis=1), np.nan)
