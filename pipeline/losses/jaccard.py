"""Jaccard loss: 1 minus intersection over union, of probabilities.

Source: Rahman, Wang. Optimizing Intersection-Over-Union in Deep Neural Networks for Image Segmentation, 2016,
section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._pixels import Fixed, over_present, overlap, safe


class Config(LossConfig):
    """Over the whole batch for each class, then the mean over the classes that the batch holds.

    A class counts as much as any other, however few its pixels; one that no pixel of the batch is of counts for
    nothing, so a batch without a single known pixel costs 0.
    """

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.MAP, Target.MASK)})

    smooth: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Pixels added above and below, so that a class of few pixels weighs less; 0 is the plain index."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return Fixed(jaccard, smooth=self.smooth)


def jaccard(logits: Tensor, targets: Tensor, smooth: float) -> Tensor:
    """Mean Jaccard loss of the classes in a batch.

    Args:
        logits: raw class scores, float [B, K, H, W].
        targets: true class ids, uint8 [B, H, W], 255 where nothing is said.
        smooth: >= 0.

    Returns:
        Scalar in 0..1.
    """
    common, said, true = overlap(logits, targets)
    return over_present(1 - (common + smooth) / safe(said + true - common + smooth), true)
