"""ArcFace: cross-entropy over people, where the angle to the own person counts as larger than it is.

Source: Deng, Guo, Xue, Zafeiriou. ArcFace: Additive Angular Margin Loss for Deep Face Recognition, 2019, equation 3;
beyond an angle of 180 degrees minus the margin it goes on as the authors' code has it, so that it keeps growing.
pytorch-metric-learning has it too, with an arc cosine whose slope is infinite where two directions are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._directions import Margins

NARROW = 1e-7
"""Squared sine below which an angle has no slope any more."""


class Config(LossConfig):
    """The mean over the batch, in nats; it holds a direction for each person of the training images."""

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.EMBEDDING, Target.IDENTITY)})

    margin: float = Field(0.5, ge=0, lt=math.pi / 2)
    """Radians that are added to the angle."""
    scale: float = Field(64.0, gt=0, le=1000)
    """What cosines are multiplied by: the smaller, the softer. For few people, 16 to 32 learns sooner."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return ArcFace(counts, outputs, self)


class ArcFace(Margins):
    """Embeddings float [B, E] and people int64 [B] to a scalar >= 0."""

    def __init__(self, counts: Sequence[int], outputs: int, config: Config) -> None:
        super().__init__(counts, outputs, config.scale)
        self.margin = config.margin

    def worsened(self, cosines: Tensor) -> Tensor:
        """cos(angle + margin)."""
        sines = (1 - cosines**2).clamp(min=NARROW).sqrt()
        wider = cosines * math.cos(self.margin) - sines * math.sin(self.margin)
        beyond = cosines - self.margin * math.sin(self.margin)
        return torch.where(cosines > -math.cos(self.margin), wider, beyond)
