"""Average precision: the area under the precision-recall curve, without interpolation; the mean over classes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.labels import LabelAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import macro_one_vs_rest, ratio


class Config(MetricConfig):
    """One-vs-rest, macro, as scikit-learn's `average_precision_score(average="macro")` over one column per class.

    The mean goes over the classes that have images (scikit-learn lets the others count as 0), also of two classes.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABEL})
    title: ClassVar[str] = "Average precision"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: LabelAnswers, weights: np.ndarray) -> np.ndarray:
        """A class without weight is left out of the mean; nan where all are."""
        return macro_one_vs_rest(one_vs_rest, answers, weights)


def one_vs_rest(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean, over the images of one class, of the precision among the images that score at least as high.

    Args:
        scores: float64 [N].
        positive: whether an image is of the class, bool [N].
        weights: float64 [N, R].

    Returns:
        float64 [R]; nan where the class has no weight.
    """
    if not positive.any():
        return np.full(weights.shape[1], np.nan)
    order = np.argsort(-scores, kind="stable")
    ranked, own = -scores[order], -scores[order[positive[order]]]  # ascending: the surest image first
    mine = weights[order[positive[order]]]
    # Of images that score alike, each sees all: the last of them tells how much weight scores at least as high.
    found = np.cumsum(mine, axis=0)[np.searchsorted(own, own, side="right") - 1]
    everyone = np.cumsum(weights[order], axis=0)[np.searchsorted(ranked, own, side="right") - 1]
    precision = ratio(found, everyone, 0)
    return ratio(np.einsum("nr,nr->r", mine, precision), mine.sum(axis=0), np.nan)
