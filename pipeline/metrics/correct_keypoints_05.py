"""PCK@0.05: the share of the points that are told within a twentieth of the normaliser.

Source: Yang, Ramanan. Articulated Human Detection with Flexible Mixtures of Parts, 2013, section 6.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.points import NEARER, PointAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._points import share_within


class Config(MetricConfig):
    """Over all known points of all images; `task.normalise` says what a distance is a share of."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.POINTS})
    title: ClassVar[str] = "Correct keypoints (PCK@0.05)"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: PointAnswers, weights: np.ndarray) -> np.ndarray:
        """See `MetricConfig.score`; nan where no point that is known has weight."""
        return share_within(answers, NEARER, weights)
