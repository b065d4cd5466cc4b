"""Mask mAP at an IoU of 0.75: an object is right if its pixels are nearly those.

Source: Lin et al. Microsoft COCO: Common Objects in Context, 2014; pycocotools with `iouType="segm"`.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.instances import InstanceAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._objects import mean_average_precision


class Config(MetricConfig):
    """COCO's AP75 for segmentation."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.INSTANCES})
    title: ClassVar[str] = "Mask mAP 75"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: InstanceAnswers, weights: np.ndarray) -> np.ndarray:
        """A class without objects, or whose objects have no weight, is left out of the mean; nan where all are."""
        return mean_average_precision(answers, weights, ious=[5])
