"""mAP of small objects: those of at most 32 x 32 pixels, measured by their boxes in the original picture.

Source: Lin et al. Microsoft COCO: Common Objects in Context, 2014; pycocotools.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.objects import ObjectAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._objects import mean_average_precision


class Config(MetricConfig):
    """COCO's AP for small objects, with the area of the box where pycocotools takes the one in the JSON file."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.OBJECTS, Target.INSTANCES})
    title: ClassVar[str] = "mAP of small objects"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: ObjectAnswers, weights: np.ndarray) -> np.ndarray:
        """A class without objects, or whose objects have no weight, is left out of the mean; nan where all are."""
        return mean_average_precision(answers.as_boxes, weights, area="small")
