"""Mean dice: twice the pixels rightly said to be of a class, over those true and those said; the mean over classes.

Source: Dice. Measures of the Amount of Ecologic Association Between Species, 1945.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.masks import MaskAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import macro


class Config(MetricConfig):
    """Pixels are summed over all images first, as scikit-learn's `f1_score(average="macro")` of all pixels.

    The mean goes over the classes that are true or said of some pixel; void pixels count for nothing.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.MASK})
    title: ClassVar[str] = "Mean dice"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: MaskAnswers, weights: np.ndarray) -> np.ndarray:
        """A class with no weight at all is left out of the mean; nan where all are."""
        dice = answers.summed(weights).dice
        return macro(dice, ~np.isnan(dice))
