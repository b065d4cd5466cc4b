"""Verification AUC: how often two images of one person are nearer to each other than two images of two people.

Source: Hanley, McNeil. The Meaning and Use of the Area under a ROC Curve, 1982 (area as a rank statistic).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._likeness import Roc
from pipeline.answers.identities import IdentityAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._pairs import of_curves


class Config(MetricConfig):
    """Over every two of the images, as scikit-learn's `roc_auc_score` of those pairs with minus the distance.

    As near counts half; 0.5 is chance, however many people there are.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.IDENTITY})
    title: ClassVar[str] = "Verification AUC"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: IdentityAnswers, weights: np.ndarray) -> np.ndarray:
        """See `answers._likeness` for what a pair weighs; nan where pairs of one person, or of two, have no weight."""
        return of_curves(Roc.area, answers, weights)
