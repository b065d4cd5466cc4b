"""Expected calibration error: how far the confidence lies from the share of right answers.

Source: Guo, Pleiss, Sun, Weinberger. On Calibration of Modern Neural Networks, 2017, equation 3, with 15 bins.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.answers.labels import LabelAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import by_group

BINS = 15


class Config(MetricConfig):
    """Of the most probable class, in 15 equal bins of confidence, (0, 1/15], ..., (14/15, 1]; 0 at best.

    It leans upwards on few images, and under resampling more so: read it beside the reliability diagram.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABEL, Target.GRADE})
    title: ClassVar[str] = "Calibration error"
    higher_is_better: ClassVar[bool] = False

    def score(self, answers: LabelAnswers, weights: np.ndarray) -> np.ndarray:
        """Mean over the bins, by their weight; nan where the weights sum to 0."""
        confidence = answers.confidence
        bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
        gaps = np.abs(by_group(weights * (answers.right - confidence), bins, BINS)).sum(axis=1)
        return ratio(gaps, weights.sum(axis=1), np.nan)
