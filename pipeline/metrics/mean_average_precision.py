"""Mean average precision: the area under the precision-recall curve of each class, and the mean over classes.

Source: Lin et al. Microsoft COCO: Common Objects in Context, 2014, of boxes; of whole images as in Ridnik et al.
Asymmetric Loss for Multi-Label Classification, 2021, section 4.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers._ranking import average_precision
from pipeline.answers.label_sets import LabelSetAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import macro_one_vs_rest


class Config(MetricConfig):
    """Macro, as scikit-learn's `average_precision_score(average="macro")`; no threshold has a part in it.

    The mean goes over the classes that have images (scikit-learn lets the others count as 0).
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABELS})
    title: ClassVar[str] = "Mean average precision"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: LabelSetAnswers, weights: np.ndarray) -> np.ndarray:
        """A class without weight is left out of the mean; nan where all are."""
        return macro_one_vs_rest(average_precision, answers, weights)
