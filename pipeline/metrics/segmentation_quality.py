"""Segmentation quality: the mean IoU of the objects that are found; the mean over classes.

Source: Kirillov, He, Girshick, Rother, Dollar. Panoptic Segmentation, 2019, section 4.2.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.instances import InstanceAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._objects import mean_known


class Config(MetricConfig):
    """SQ, one factor of the panoptic quality; 0 of a class of which no object is found."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.INSTANCES})
    title: ClassVar[str] = "Segmentation quality"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: InstanceAnswers, weights: np.ndarray) -> np.ndarray:
        """A class that is neither there nor said is left out of the mean; nan where all are."""
        return mean_known(answers.panoptic.summed(weights).segmentation)
