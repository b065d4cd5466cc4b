"""Mask mAP of medium objects: those of 32 x 32 to 96 x 96 pixels of the original picture.

Source: Lin et al. Microsoft COCO: Common Objects in Context, 2014; pycocotools with `iouType="segm"`.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.instances import InstanceAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._objects import mean_average_precision


class Config(MetricConfig):
    """COCO's AP for medium objects, with the number of pixels where pycocotools takes the area in the JSON file."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.INSTANCES})
    title: ClassVar[str] = "Mask mAP of medium objects"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: InstanceAnswers, weights: np.ndarray) -> np.ndarray:
        """A class without objects, or whose objects have no weight, is left out of the mean; nan where all are."""
        return mean_average_precision(answers, weights, area="medium")
