"""What the scores of objects share: means over the classes that have objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.answers.objects import COCO_IOUS, ObjectAnswers
from pipeline.metrics._tally import macro


def mean_average_precision(
    answers: ObjectAnswers, weights: np.ndarray, area: str = "all", ious: Sequence[int] = COCO_IOUS
) -> np.ndarray:
    """The mean of `ObjectAnswers.average_precision` over overlaps and classes: float64 [R], nan without objects."""
    return mean_known(answers.average_precision(weights, area, ious).mean(axis=2))


def mean_average_recall(answers: ObjectAnswers, weights: np.ndarray) -> np.ndarray:
    """The mean of `ObjectAnswers.average_recall` over the classes: float64 [R], nan without objects."""
    return mean_known(answers.average_recall(weights))


def mean_known(of_class: np.ndarray) -> np.ndarray:
    """The mean of scores [R, K] over the classes where they are no nan: float64 [R]."""
    return macro(of_class, ~np.isnan(of_class))
