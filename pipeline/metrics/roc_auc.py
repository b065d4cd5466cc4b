"""ROC AUC: how often an image of a class gets a higher probability for it than an image of another class.

Source: Hanley, McNeil. The Meaning and Use of the Area under a ROC Curve, 1982 (area as a rank statistic).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.answers.label_sets import LabelSetAnswers
from pipeline.answers.labels import LabelAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import macro_one_vs_rest


class Config(MetricConfig):
    """One-vs-rest, macro, as scikit-learn's `roc_auc_score(multi_class="ovr", average="macro")`.

    The mean goes over the classes that have images and are not all there is, where scikit-learn refuses to answer;
    two classes are treated no differently. Ties count half. Of images of several classes each class is asked alone.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABEL, Target.LABELS, Target.GRADE})
    title: ClassVar[str] = "ROC AUC"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: LabelAnswers | LabelSetAnswers, weights: np.ndarray) -> np.ndarray:
        """A class with weight on one side only is left out of the mean; nan where all are."""
        return macro_one_vs_rest(one_vs_rest, answers, weights)


def one_vs_rest(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The area for one class.

    The weight below each positive, ties by half, counts the pairs with negatives and those among positives; the
    latter make half the square of the positives' weight, whatever their order.

    Args:
        scores: float64 [N].
        positive: whether an image is of the class, bool [N].
        weights: float64 [N, R].

    Returns:
        float64 [R]; nan where one side has no weight.
    """
    if not positive.any() or positive.all():
        return np.full(weights.shape[1], np.nan)
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    cumulative = np.cumsum(weights[order], axis=0)
    cumulative = np.concatenate([np.zeros((1, weights.shape[1])), cumulative])
    mine = weights[positive]
    below = cumulative[np.searchsorted(ranked, scores[positive], side="left")]
    up_to = cumulative[np.searchsorted(ranked, scores[positive], side="right")]
    inside = mine.sum(axis=0)
    outside = cumulative[-1] - inside
    pairs = np.einsum("nr,nr->r", mine, below + up_to) / 2 - inside**2 / 2
    return ratio(pairs, inside * outside, np.nan)
