"""What the losses of named points share: how far off each is, and where a grid should say it is."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.losses._pixels import safe
from pipeline.networks import Pointing

REACH = 3.0
"""Deviations that a point may lie beyond the grid and still be looked for at its edge."""


def off(said: Pointing, targets: Tensor) -> Tensor:
    """How far right of its place and below it each point is said to be, as shares of the side.

    Args:
        said: of B pictures.
        targets: float32 [B, J, 4]: x, y, known, partner in a mirror.

    Returns:
        float32 [B, J, 2].
    """
    return (said.places - targets[..., :2]) / said.side


def over_known(costs: Tensor, near: Tensor, targets: Tensor) -> Tensor:
    """The mean over the known points; 0 where none is.

    Args:
        costs: float [B, J].
        near: which points have a cell to be looked for in, bool [B, J]; any other costs nothing, and counts.
        targets: float32 [B, J, 4].
    """
    known = targets[..., 2] > 0
    return torch.where(known & near, costs, 0).sum() / safe(known.to(costs.dtype).sum())


def on_grid(said: Pointing, targets: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """The Gaussian around each point, on the cells of the maps: it sums to 1, and is the product of two.

    Args:
        said: with maps of h x w cells.
        targets: float32 [B, J, 4].
        sigma: its deviation, in cells.

    Returns:
        The logarithms of the rows' shares, float32 [B, J, h], and of the columns', [B, J, w]; and which points are
        on the grid, or no further from it than the Gaussian reaches: bool [B, J].
    """
    assert said.maps is not None
    height, width = said.maps.shape[-2:]
    covered = said.side + 2 * said.margin
    x, y = ((targets[..., :2] + said.margin) / covered).unbind(dim=-1)
    x, y = x * width, y * height
    shares = [_gaussian(at, count, sigma) for at, count in ((y, height), (x, width))]
    beyond = torch.maximum(torch.maximum(-x, x - width), torch.maximum(-y, y - height))
    return shares[0], shares[1], beyond <= REACH * sigma


def _gaussian(places: Tensor, count: int, sigma: float) -> Tensor:
    """Of places [B, J] along an axis of so many cells, the first of them from 0 to 1: log shares [B, J, count]."""
    middles = torch.arange(count, device=places.device, dtype=places.dtype) + 0.5
    return (-((middles - places[..., None]) ** 2) / (2 * sigma**2)).log_softmax(dim=-1)
