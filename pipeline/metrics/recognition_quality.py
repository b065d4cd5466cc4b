"""Recognition quality: the F1 of objects, each pixel given to one of them; the mean over classes.

Source: Kirillov, He, Girshick, Rother, Dollar. Panoptic Segmentation, 2019, section 4.2.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.instances import InstanceAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._objects import mean_known


class Config(MetricConfig):
    """RQ, one factor of the panoptic quality: an object is right with an IoU of more than 0.5."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.INSTANCES})
    title: ClassVar[str] = "Recognition quality"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: InstanceAnswers, weights: np.ndarray) -> np.ndarray:
        """A class that is neither there nor said is left out of the mean; nan where all are."""
        return mean_known(answers.panoptic.summed(weights).recognition)
