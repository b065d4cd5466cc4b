"""Ordinal cross-entropy: the surprise, in nats, at whether the truth lies above each class; far mistakes cost more.

Source: Cheng, Wang, Pollastri. A Neural Network Approach to Ordinal Regression, 2008, asks whether an image is above
each of K - 1 thresholds; here the answer is what a softmax over K classes gives the classes above, as in the ranked
probability score of Epstein. A Scoring System for Probability Forecasts of Ranked Categories, 1969.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target


class Config(LossConfig):
    """Summed over the K - 1 thresholds between the classes, and the mean over images."""

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.VECTOR, Target.GRADE)})

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return OrdinalCrossEntropy()


class OrdinalCrossEntropy(nn.Module):
    """`ordinal_cross_entropy` as a module."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `ordinal_cross_entropy`."""
        return ordinal_cross_entropy(logits, targets)


def ordinal_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean ordinal cross-entropy of a batch, in nats.

    Args:
        logits: raw scores of classes in their order, float [B, K].
        targets: true class ids, int64 [B], each in 0..K-1.

    Returns:
        Scalar >= 0.
    """
    places = torch.arange(logits.shape[1], device=logits.device)
    below = places <= places[:-1, None]  # [K - 1, K]: up to each threshold
    above = targets[:, None] > places[:-1]  # [B, K - 1]
    # Sums of probabilities as logarithms of sums of powers: a sum of probabilities would round to 0 or 1.
    own = torch.where(above[:, :, None], ~below, below)
    inside = logits[:, None, :].masked_fill(~own, -torch.inf).logsumexp(dim=2)
    return (logits.logsumexp(dim=1, keepdim=True) - inside).sum(dim=1).mean()
