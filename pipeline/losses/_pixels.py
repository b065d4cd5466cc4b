"""What losses of masks share: the pixels that are not void, and how far what is said of them overlaps with the truth.

All of it runs in torch's deterministic mode on every device: what is avoided says so where it is avoided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.masks import VOID


class Fixed(nn.Module):
    """A function of logits and targets, with its settings."""

    def __init__(self, function: Callable[..., Tensor], **settings: Any) -> None:
        super().__init__()
        self.function = function
        self.settings = settings

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See the function."""
        return self.function(logits, targets, **self.settings)


class Overlap(NamedTuple):
    """Of each class, summed over the pixels that are not void: float [K]."""

    common: Tensor
    """What is rightly said: the probability of the class where it is true."""
    said: Tensor
    """Its probability everywhere."""
    true: Tensor
    """The number of its pixels."""


def overlap(logits: Tensor, targets: Tensor) -> Overlap:
    """How probabilities overlap with a mask, over the whole batch.

    Args:
        logits: raw class scores, float [B, K, H, W].
        targets: true class ids, uint8 [B, H, W], 255 where nothing is said.
    """
    shares = logits.softmax(dim=1) * (targets != VOID).unsqueeze(1)
    true = members(logits, targets)
    everywhere = [0, *range(2, logits.ndim)]
    return Overlap((shares * true).sum(everywhere), shares.sum(everywhere), true.sum(everywhere).to(shares.dtype))


def members(logits: Tensor, targets: Tensor) -> Tensor:
    """Whether each pixel is of each class: bool [B, K, H, W]; a void one is of none.

    A comparison, and not `gather` or `nll_loss`: the gradients of those add up in any order on a GPU.
    """
    classes = torch.arange(logits.shape[1], dtype=targets.dtype, device=targets.device)
    return targets.unsqueeze(1) == classes.view(-1, *[1] * (logits.ndim - 2))


def across(shares: Tensor, weights: Tensor | None = None) -> Tensor:
    """What each pixel adds up to over the classes: [B, K, H, W] to [B, H, W].

    Args:
        shares: of each class.
        weights: what each class counts, float [K]; None: each counts 1.
    """
    if weights is not None:
        shares = shares * weights.view(-1, *[1] * (shares.ndim - 2))
    return shares.sum(dim=1)


def known_weight(masks: Tensor, weights: Tensor | None = None) -> Tensor:
    """The sum of the weights of the pixels that are not void, a scalar.

    Args:
        masks: true class ids, uint8 [B, H, W], 255 where nothing is said.
        weights: of each class, float [K]; None: each pixel weighs 1.
    """
    if weights is None:
        return (masks != VOID).sum()
    of_ids = torch.cat([weights, weights.new_zeros(VOID + 1 - len(weights))])
    return of_ids[masks.long()].sum()


def over_present(costs: Tensor, true: Tensor) -> Tensor:
    """The plain mean of finite costs [K] over the classes that are true somewhere; 0 if none is, and of no slope."""
    present = true > 0
    return (costs * present).sum() / present.sum().clamp(min=1)


def safe(below: Tensor) -> Tensor:
    """What is divided by: 1 in place of 0, where what is above it is 0 as well."""
    return torch.where(below > 0, below, torch.ones_like(below))
