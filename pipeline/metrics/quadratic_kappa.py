"""Quadratic kappa: agreement about ordered classes beyond chance; a mistake costs the square of its distance.

Source: Cohen. Weighted Kappa: Nominal Scale Agreement with Provision for Scaled Disagreement or Partial Credit, 1968.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.answers.grades import GradeAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import tally


class Config(MetricConfig):
    """As scikit-learn's `cohen_kappa_score(weights="quadratic")`: 1 for perfect answers, 0 for constant ones."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.GRADE})
    title: ClassVar[str] = "Quadratic kappa"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: GradeAnswers, weights: np.ndarray) -> np.ndarray:
        """Nan where all weight is of images of one class that is said of all of them."""
        actual, said, _ = tally(answers, weights)
        places = np.arange(len(answers.classes), dtype=np.float64)
        squares = (places[:, None] - places) ** 2
        # Summed term by term, none of them negative: it is 0 exactly where truth and answers are one class.
        chance = ratio(np.einsum("rj,rj->r", np.einsum("ri,ij->rj", actual, squares), said), weights.sum(axis=1), 0)
        observed = np.einsum("rn,n->r", weights, answers.apart.astype(np.float64) ** 2)
        return 1 - ratio(observed, chance, np.nan)
