"""Numbers that are known of some images of a batch, and not of others: those of points too, two of each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.losses._pixels import Fixed
from pipeline.networks import Pointing

HUNDREDTHS = 100


class OverKnown(nn.Module):
    """A loss that is a mean over what is known."""

    def total_weight(self, targets: Tensor) -> Tensor:
        """See `training.Weighing`: of numbers float [B, T] those that are not nan, of points [B, J, 4] the known."""
        return _count(targets)


class FixedOverKnown(Fixed):
    """The same of a function with its settings."""

    def total_weight(self, targets: Tensor) -> Tensor:
        """See `OverKnown.total_weight`."""
        return _count(targets)


def _count(targets: Tensor) -> Tensor:
    return (targets[..., 2] > 0 if targets.ndim == 3 else ~torch.isnan(targets)).sum()


def known_of(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Targets with 0 in place of nan, and whether each was known: float and bool [B, T]."""
    known = ~torch.isnan(targets)
    return torch.where(known, targets, 0.0), known


def beside(said: Tensor | Pointing, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What is said, what is true, 0 where that is not known, and whether it is: two of float and one of bool [B, T].

    Of points these are x and y of each in turn, in hundredths of the picture's side: pictures of any size cost alike.

    Args:
        said: numbers float [B, T], or places.
        targets: of numbers float [B, T], nan where one is not known; of points float [B, J, 4].
    """
    if not isinstance(said, Pointing):
        return said, *known_of(targets)
    known = (targets[..., 2:3] > 0).expand(-1, -1, 2).flatten(1)
    true = torch.where(known, targets[..., :2].flatten(1) * (HUNDREDTHS / said.side), 0.0)
    return said.places.flatten(1) * (HUNDREDTHS / said.side), true, known


def mean_over(costs: Tensor, known: Tensor) -> Tensor:
    """The mean of what is known, a scalar; 0 where nothing is."""
    # An unknown one is multiplied by 0 and not left out: the shapes are the same for every batch.
    return (costs * known).sum() / known.sum().clamp(min=1)
