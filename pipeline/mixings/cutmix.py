"""CutMix: each picture has a rectangle of another one in it, and is both, by their areas.

Source: Yun et al. CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features, 2019,
equations 1 and 2; masks as French et al. Semi-supervised Semantic Segmentation Needs Strong, Varied Perturbations,
2020, cut them: with the pixels.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from pipeline.contracts import Target
from pipeline.mixings._blends import partners, pasted, rectangle
from pipeline.training import MixingConfig


class Config(MixingConfig):
    """Of classes, and of masks; a number of a picture, or a count, is not that of its parts by their areas."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABEL, Target.GRADE, Target.LABELS, Target.MASK})

    alpha: float = Field(1.0, gt=0, le=100)
    """The share of the picture that stays is drawn from Beta(alpha, alpha): evenly from all if it is 1."""
    probability: float = Field(0.5, gt=0, le=1)
    """Share of the steps that blend at all."""

    def mixed(
        self, pictures: Tensor, targets: Tensor, random: np.random.Generator
    ) -> tuple[Tensor, list[tuple[Tensor, float]]]:
        """See `MixingConfig.mixed`."""
        if random.random() >= self.probability:
            return pictures, [(targets, 1.0)]
        height, width = pictures.shape[2:]
        box = rectangle(width, height, random.beta(self.alpha, self.alpha), random)
        return pasted(pictures, targets, box, partners(len(pictures), random))
