"""F1 of each class at its threshold; the mean over classes, so that a rare one counts like any other."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.answers.label_sets import LabelSetAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import macro, tally_sets


class Config(MetricConfig):
    """Macro F1, as scikit-learn's `f1_score(average="macro", zero_division=nan)` of the classes that are said.

    The mean goes over the classes that are true or said of some image.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABELS})
    title: ClassVar[str] = "F1"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: LabelSetAnswers, weights: np.ndarray) -> np.ndarray:
        """A class with no weight at all is left out of the mean; nan where all are."""
        actual, said, right = tally_sets(answers, weights)
        return macro(ratio(2 * right, actual + said, 0), actual + said > 0)
