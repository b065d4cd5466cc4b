"""Normalised mean error: how far points are told from where they are, as a share of the face or the picture.

Source: Sagonas, Antonakos, Tzimiropoulos, Zafeiriou, Pantic. 300 Faces In-the-Wild Challenge, 2016, section 5.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.points import PointAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import mean


class Config(MetricConfig):
    """The mean over the known points of an image, then over the images; `task.normalise` says what it is a share of.

    An image without a known point counts for nothing.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.POINTS})
    title: ClassVar[str] = "Normalised mean error"
    higher_is_better: ClassVar[bool] = False

    def score(self, answers: PointAnswers, weights: np.ndarray) -> np.ndarray:
        """See `MetricConfig.score`; nan where no point that is known has weight."""
        known = np.isfinite(answers.mean_errors)
        return mean(answers.mean_errors[known], weights[:, known])
