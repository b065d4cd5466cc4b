"""Mixup: each picture shines through another one, and is both, by their shares.

Source: Zhang, Cisse, Dauphin, Lopez-Paz. mixup: Beyond Empirical Risk Minimization, 2017, equation 1; one share for
the batch, as in the authors' code.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from pipeline.contracts import Target
from pipeline.mixings._blends import faded, partners
from pipeline.training import MixingConfig


class Config(MixingConfig):
    """Of what is said of a picture as a whole. With numbers and counts it amounts to the mean of what is true of both.

    Not of identities, whose losses compare pictures of one person each, and not of places in a picture.
    """

    takes: ClassVar[frozenset[Target]] = frozenset(
        {Target.LABEL, Target.GRADE, Target.LABELS, Target.NUMBERS, Target.COUNTS}
    )

    alpha: float = Field(0.2, gt=0, le=100)
    """The share is drawn from Beta(alpha, alpha): near 0 or 1 if it is small, evenly from all if it is 1."""
    probability: float = Field(1.0, gt=0, le=1)
    """Share of the steps that blend at all."""

    def mixed(
        self, pictures: Tensor, targets: Tensor, random: np.random.Generator
    ) -> tuple[Tensor, list[tuple[Tensor, float]]]:
        """See `MixingConfig.mixed`."""
        if random.random() >= self.probability:
            return pictures, [(targets, 1.0)]
        share = random.beta(self.alpha, self.alpha)
        return faded(pictures, targets, share, partners(len(pictures), random))
