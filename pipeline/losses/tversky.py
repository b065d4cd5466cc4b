"""Tversky loss: overlap in which false alarms and misses have weights of their own.

Source: Salehi, Erdogmus, Gholipour. Tversky Loss Function for Image Segmentation Using 3D Fully Convolutional Deep
Networks, 2017, equation 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, model_validator
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._pixels import Fixed, over_present, overlap, safe


class Config(LossConfig):
    """Over the whole batch for each class, then the mean over the classes that the batch holds.

    alpha = beta = 0.5 is the dice loss, and alpha = beta = 1 the Jaccard loss; the paper found 0.3 and 0.7 best.
    """

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.MAP, Target.MASK)})

    alpha: float = Field(0.3, ge=0, le=100)
    """Weight of false alarms: pixels that are said to be of a class, and are not."""
    beta: float = Field(0.7, ge=0, le=100)
    """Weight of misses: pixels of a class that are said to be of another."""
    smooth: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Pixels added above and below, so that a class of few pixels weighs less; 0 is the plain index."""

    @model_validator(mode="after")
    def _punishes_something(self) -> Config:
        if self.alpha == self.beta == 0:
            raise ValueError("alpha and beta are both 0, so that no answer is wrong; raise one of them")
        return self

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return Fixed(tversky, alpha=self.alpha, beta=self.beta, smooth=self.smooth)


def tversky(logits: Tensor, targets: Tensor, alpha: float, beta: float, smooth: float) -> Tensor:
    """Mean Tversky loss of the classes in a batch.

    Args:
        logits: raw class scores, float [B, K, H, W].
        targets: true class ids, uint8 [B, H, W], 255 where nothing is said.
        alpha: >= 0, of false alarms.
        beta: >= 0, of misses.
        smooth: >= 0.

    Returns:
        Scalar in 0..1.
    """
    common, said, true = overlap(logits, targets)
    below = common + alpha * (said - common) + beta * (true - common) + smooth
    return over_present(1 - (common + smooth) / safe(below), true)
