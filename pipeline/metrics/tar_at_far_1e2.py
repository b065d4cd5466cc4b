"""True accepts at 1% of false accepts: how many pairs of one person are found by a threshold as strict as that.

Source: Grother, Ngan, Hanaoka. Face Recognition Vendor Test, part 1: Verification, 2019, section 3.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.identities import IdentityAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._pairs import true_accepts


class Config(MetricConfig):
    """Over every two of the images: the share of the pairs of one person that are accepted by the widest threshold that
    accepts no more than 1% of the pairs of two.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.IDENTITY})
    title: ClassVar[str] = "True accepts at 1% false ones"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: IdentityAnswers, weights: np.ndarray) -> np.ndarray:
        """See `answers._likeness` for what a pair weighs; nan where pairs of one person, or of two, have no weight."""
        return true_accepts(answers, weights, 0.01)
