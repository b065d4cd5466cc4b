"""mAP: the area under the precision-recall curve, its mean over classes and over IoUs from 0.5 to 0.95.

Source: Lin et al. Microsoft COCO: Common Objects in Context, 2014; pycocotools.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.objects import ObjectAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._objects import mean_average_precision


class Config(MetricConfig):
    """COCO's AP, which pycocotools prints first: 10 IoUs, 101 recalls, 100 boxes of each class in an image."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.OBJECTS, Target.INSTANCES})
    title: ClassVar[str] = "mAP 50:95"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: ObjectAnswers, weights: np.ndarray) -> np.ndarray:
        """A class without objects, or whose objects have no weight, is left out of the mean; nan where all are."""
        return mean_average_precision(answers.as_boxes, weights)
