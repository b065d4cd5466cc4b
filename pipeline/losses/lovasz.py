"""Lovász-softmax: a convex surrogate of intersection over union, which it equals where every answer is certain.

Source: Berman, Rannen Triki, Blaschko. The Lovász-Softmax Loss: A Tractable Surrogate for the Optimization of the
Intersection-over-Union Measure in Neural Networks, 2018, equations 8, 9 and 11 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._pixels import Fixed, members, over_present
from pipeline.masks import VOID


class Config(LossConfig):
    """Over the whole batch for each class, then the mean over the classes that the batch holds.

    It sorts all pixels once for each class. From scratch it learns slowly by itself: a sum with cross-entropy does not.
    """

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.MAP, Target.MASK)})

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return Fixed(lovasz)


def lovasz(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean Lovász-softmax loss of the classes in a batch.

    Args:
        logits: raw class scores, float [B, K, H, W].
        targets: true class ids, uint8 [B, H, W], 255 where nothing is said.

    Returns:
        Scalar in 0..1.
    """
    true = members(logits, targets).movedim(1, 0).flatten(1)  # [K, P]
    known = (targets != VOID).flatten()
    shares = logits.softmax(dim=1).movedim(1, 0).flatten(1)
    errors = torch.where(true, 1 - shares, shares) * known
    # Void pixels come last, where they change nothing for the others.
    order = errors.detach().masked_fill(~known, -1).argsort(dim=1, descending=True, stable=True)
    weights = torch.empty_like(errors).scatter_(1, order, growth(true.gather(1, order), errors.dtype))
    # The slope of the sorted sum is that of this one: the weights are constant between two orders.
    return over_present((errors * weights).sum(dim=1), true.sum(dim=1))


def growth(true: Tensor, dtype: torch.dtype) -> Tensor:
    """By how much each further pixel that is answered wrongly raises the Jaccard loss.

    Algorithm 1 of the paper subtracts losses that differ by a millionth from each other; here the difference is worked
    out beforehand: a miss takes a pixel from the intersection, a false alarm adds one to the union.

    Args:
        true: whether each pixel is of the class, the worst error first: bool [K, P].
        dtype: of the result.

    Returns:
        [K, P], >= 0.
    """
    found = true.cumsum(dim=1)  # of integers: running sums of fractions are refused in deterministic mode on a GPU
    left = true.sum(dim=1, keepdim=True) - found
    union = left + torch.arange(1, true.shape[1] + 1, device=true.device)
    alarm = left.to(dtype) / (union * (union - 1)).clamp(min=1).to(dtype)
    return torch.where(true, 1 / union.to(dtype), alarm)
