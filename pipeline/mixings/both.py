"""Mixup and CutMix in turn: each step one of them.

Source: Touvron et al. Training data-efficient image transformers and distillation through attention, 2020, table 9.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from pipeline.contracts import Target
from pipeline.mixings._blends import faded, partners, pasted, rectangle
from pipeline.training import MixingConfig


class Config(MixingConfig):
    """Of classes: what both mixup and cutmix take."""

    takes: ClassVar[frozenset[Target]] = frozenset({Target.LABEL, Target.GRADE, Target.LABELS})

    mixup_alpha: float = Field(0.8, gt=0, le=100)
    """As `alpha` of mixup."""
    cutmix_alpha: float = Field(1.0, gt=0, le=100)
    """As `alpha` of cutmix."""
    cutmix_share: float = Field(0.5, ge=0, le=1)
    """Share of the steps that blend that do it by CutMix."""
    probability: float = Field(1.0, gt=0, le=1)
    """Share of the steps that blend at all."""

    def mixed(
        self, pictures: Tensor, targets: Tensor, random: np.random.Generator
    ) -> tuple[Tensor, list[tuple[Tensor, float]]]:
        """See `MixingConfig.mixed`."""
        if random.random() >= self.probability:
            return pictures, [(targets, 1.0)]
        if random.random() >= self.cutmix_share:
            share = random.beta(self.mixup_alpha, self.mixup_alpha)
            return faded(pictures, targets, share, partners(len(pictures), random))
        height, width = pictures.shape[2:]
        box = rectangle(width, height, random.beta(self.cutmix_alpha, self.cutmix_alpha), random)
        return pasted(pictures, targets, box, partners(len(pictures), random))
