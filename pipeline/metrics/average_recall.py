"""Average recall: the share of the objects that are found, whatever else is said; its mean over classes and IoUs.

Source: Hosang, Benenson, Dollar, Schiele. What Makes for Effective Detection Proposals?, 2015; pycocotools.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.objects import ObjectAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._objects import mean_average_recall


class Config(MetricConfig):
    """COCO's AR with 100 boxes of each class in an image: IoUs from 0.5 to 0.95."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.OBJECTS, Target.INSTANCES})
    title: ClassVar[str] = "Average recall"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: ObjectAnswers, weights: np.ndarray) -> np.ndarray:
        """A class without objects, or whose objects have no weight, is left out of the mean; nan where all are."""
        return mean_average_recall(answers.as_boxes, weights)
