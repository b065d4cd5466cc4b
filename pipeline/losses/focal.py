"""Focal loss: cross-entropy that fades for examples already right.

Source: Lin, Goyal, Girshick, He, Dollar. Focal Loss for Dense Object Detection, 2017, equations 4 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._class_weights import ClassWeights, class_weights
from pipeline.losses._pixels import across, known_weight, members, safe


class Config(LossConfig):
    """Mean focal loss; with class weights (alpha in the paper), the weighted mean, as torch's cross-entropy has it.

    Void pixels of a mask count for nothing. Where an image is of any number of classes, each is asked by itself: a
    sigmoid takes the place of the softmax, and a class weighs as much where it is absent.
    """

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset(
        {
            *((Output.VECTOR, target) for target in (Target.LABEL, Target.GRADE, Target.LABELS)),
            (Output.MAP, Target.MASK),
        }
    )

    gamma: float = Field(2.0, ge=0, le=100)
    """How fast an easy example fades; 0 is plain cross-entropy."""
    class_weights: ClassWeights = "none"
    """`none`, `balanced` (a rare class counts for more: every class has the same say), or a list of one per class."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`.

        Raises:
            UserError: as many weights as there are classes are needed.
        """
        weights = class_weights(self.class_weights, counts)
        return Focal(self.gamma, torch.ones(len(counts)) if weights is None else weights)


class Focal(nn.Module):
    """`focal` with its settings; the weights of the classes move to the device with it."""

    weights: Tensor

    def __init__(self, gamma: float, weights: Tensor) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `focal`."""
        return focal(logits, targets, self.gamma, self.weights)

    def total_weight(self, targets: Tensor) -> Tensor | float:
        """See `training.Weighing`."""
        if targets.ndim == 1:
            return self.weights[targets].sum()
        return len(targets) if targets.ndim == 2 else known_weight(targets, self.weights)


def focal(logits: Tensor, targets: Tensor, gamma: float, weights: Tensor) -> Tensor:
    """Weighted mean focal loss of a batch, in nats; 0 where no pixel is known.

    Args:
        logits: raw class scores, float [B, K] or [B, K, H, W].
        targets: true class ids, int64 [B], or uint8 [B, H, W] with 255 where nothing is said; or whether each image is
            of each class, uint8 [B, K].
        gamma: >= 0.
        weights: of each class, float [K], > 0.

    Returns:
        Scalar >= 0.
    """
    if targets.ndim == 1:
        nats, share = F.cross_entropy(logits, targets, reduction="none"), weights[targets]  # -log p of the true class
    elif targets.ndim == 2:
        nats = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
        share = weights.expand_as(nats)
    else:
        true = members(logits, targets)
        nats, share = across(true * logits.log_softmax(dim=1)).neg(), across(true, weights)
    # 1 - p; the floor is there because the slope of x ** gamma at 0 is infinite where gamma < 1.
    doubt = nats.neg().expm1().neg().clamp(min=1e-12)
    return (share * doubt**gamma * nats).sum() / safe(share.sum())
