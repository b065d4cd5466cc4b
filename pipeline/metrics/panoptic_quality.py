"""Panoptic quality: how many objects are found times how well, each pixel given to one object; the mean over classes.

Source: Kirillov, He, Girshick, Rother, Dollar. Panoptic Segmentation, 2019, section 4.2.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.instances import InstanceAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._objects import mean_known


class Config(MetricConfig):
    """PQ of the objects at the threshold: IoUs of right ones over right ones and half of those wrong or missed."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.INSTANCES})
    title: ClassVar[str] = "Panoptic quality"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: InstanceAnswers, weights: np.ndarray) -> np.ndarray:
        """A class that is neither there nor said is left out of the mean; nan where all are."""
        return mean_known(answers.panoptic.summed(weights).quality)
