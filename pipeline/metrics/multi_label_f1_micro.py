"""F1 over all classes of all images: of what is true or said, the share that is both; frequent classes decide it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.answers.label_sets import LabelSetAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import tally_sets


class Config(MetricConfig):
    """Micro F1, as scikit-learn's `f1_score(average="micro")` of the classes that are said."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABELS})
    title: ClassVar[str] = "F1 of all labels"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: LabelSetAnswers, weights: np.ndarray) -> np.ndarray:
        """Nan where no image with weight is of any class, and nothing is said of any."""
        actual, said, right = (counts.sum(axis=1) for counts in tally_sets(answers, weights))
        return ratio(2 * right, actual + said, np.nan)
