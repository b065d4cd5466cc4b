"""Failure rate: the share of the images whose points are told with a mean error of more than a tenth.

Source: Sagonas, Antonakos, Tzimiropoulos, Zafeiriou, Pantic. 300 Faces In-the-Wild Challenge, 2016, section 5.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.points import NEAR, PointAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import mean


class Config(MetricConfig):
    """Of the images in which any point is known; `task.normalise` says what an error is a share of."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.POINTS})
    title: ClassVar[str] = "Failure rate (error above 0.1)"
    higher_is_better: ClassVar[bool] = False

    def score(self, answers: PointAnswers, weights: np.ndarray) -> np.ndarray:
        """See `MetricConfig.score`; nan where no point that is known has weight."""
        known = np.isfinite(answers.mean_errors)
        return mean((answers.mean_errors > NEAR)[known], weights[:, known])
