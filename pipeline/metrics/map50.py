"""mAP at an IoU of 0.5: a box is right if it is roughly in place.

Source: Lin et al. Microsoft COCO: Common Objects in Context, 2014; pycocotools.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.objects import ObjectAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._objects import mean_average_precision


class Config(MetricConfig):
    """COCO's AP50; Pascal VOC's score since 2010 but for how the curve is cut into recalls."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.OBJECTS, Target.INSTANCES})
    title: ClassVar[str] = "mAP 50"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: ObjectAnswers, weights: np.ndarray) -> np.ndarray:
        """A class without objects, or whose objects have no weight, is left out of the mean; nan where all are."""
        return mean_average_precision(answers.as_boxes, weights, ious=[0])
