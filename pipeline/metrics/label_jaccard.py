"""Jaccard of label sets: of the classes that are true or said of an image, the share that are both.

Source: Godbole, Sarawagi. Discriminative Methods for Multi-labeled Classification, 2004.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.label_sets import LabelSetAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import mean


class Config(MetricConfig):
    """The mean over images, as scikit-learn's `jaccard_score(average="samples", zero_division=1)`.

    An image without classes of which none is said counts as 1.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABELS})
    title: ClassVar[str] = "Jaccard"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: LabelSetAnswers, weights: np.ndarray) -> np.ndarray:
        """The weighted mean; nan where the weights sum to 0."""
        return mean(answers.quality, weights)
