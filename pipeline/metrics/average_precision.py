"""Average precision: the area under the precision-recall curve, without interpolation; the mean over classes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._ranking import average_precision
from pipeline.answers.labels import LabelAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import macro_one_vs_rest


class Config(MetricConfig):
    """One-vs-rest, macro, as scikit-learn's `average_precision_score(average="macro")` over one column per class.

    The mean goes over the classes that have images (scikit-learn lets the others count as 0), also of two classes.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABEL})
    title: ClassVar[str] = "Average precision"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: LabelAnswers, weights: np.ndarray) -> np.ndarray:
        """A class without weight is left out of the mean; nan where all are."""
        return macro_one_vs_rest(average_precision, answers, weights)
