"""Boundary F1: how much of the boundaries lies where the true ones do; what is off by a pixel or two is right.

Source: Csurka, Larlus, Perronnin. What is a good evaluation measure for semantic segmentation?, 2013, section 3.2; the
tolerance is rounded up to whole pixels as by Perazzi et al. A Benchmark Dataset and Evaluation Methodology for Video
Object Segmentation, 2016.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipeline.answers.masks import MaskAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.metrics._tally import mean


class Config(MetricConfig):
    """The mean over the images, as the paper has it, of the mean over the classes that have a boundary in an image.

    For each class, precision is the share of said boundary pixels no further from a true one than 0.75 % of the
    picture's diagonal, recall the share of true ones as near to a said one, and F1 their harmonic mean; 0 where only
    one of the masks has a boundary. A pixel is on that of its class if one of its four neighbours is of another.
    """

    takes: ClassVar[frozenset[Target]] = frozenset({Target.MASK})
    title: ClassVar[str] = "Boundary F1"
    higher_is_better: ClassVar[bool] = True

    def score(self, answers: MaskAnswers, weights: np.ndarray) -> np.ndarray:
        """An image without any boundary is left out; nan where no other has weight."""
        known = ~np.isnan(answers.boundary_quality)
        return mean(answers.boundary_quality[known], weights[:, known])
