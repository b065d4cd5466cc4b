"""Equal error rate: the share of errors where as many pairs of two people are accepted as pairs of one are refused.

Source: Grother, Ngan, Hanaoka. Face Recognition Vendor Test, part 1: Verification, 2019, section 3.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._likeness import Roc
from pipeline.answers.identities import IdentityAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._pairs import of_curves


class Config(MetricConfig):
    """Over every two of the images; the threshold is chosen so that both shares are the same, between two steps of the
    ROC curve by a straight line. 0.5 is chance.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.IDENTITY})
    title: ClassVar[str] = "Equal error rate"
    higher_is_better: ClassVar[bool] = False

    def score(self, answers: IdentityAnswers, weights: np.ndarray) -> np.ndarray:
        """See `answers._likeness` for what a pair weighs; nan where pairs of one person, or of two, have no weight."""
        return of_curves(Roc.equal_error, answers, weights)
