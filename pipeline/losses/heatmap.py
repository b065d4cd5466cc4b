"""Heatmaps: the map of each point shall be a Gaussian around its place.

Sources: Tompson, Jain, LeCun, Bregler. Joint Training of a Convolutional Network and a Graphical Model for Human Pose
Estimation, 2014, section 3.1 (maps that look like Gaussians); Nibali, He, Morgan, Prendergast. Numerical Coordinate
Regression with Convolutional Neural Networks, 2018 (of a distribution over the cells, the divergence from one).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._known import FixedOverKnown
from pipeline.losses._points import on_grid, over_known
from pipeline.networks import Pointing


class Config(LossConfig):
    """The Kullback-Leibler divergence of the softmax of each map from the Gaussian, in nats; the mean over the points.

    A point that is not known costs nothing, nor one that lies so far outside of the picture that no cell is near it;
    the mean is over the known ones.
    """

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.POINTS, Target.POINTS)})

    sigma: float = Field(1.0, gt=0.1, le=20)
    """Deviation of the Gaussian, in cells of the map."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return FixedOverKnown(heatmap, sigma=self.sigma)


def heatmap(said: Pointing, targets: Tensor, sigma: float) -> Tensor:
    """Mean divergence of a batch; 0 where no point is known.

    Args:
        said: with maps float32 [B, J, h, w].
        targets: float32 [B, J, 4]: x, y, known, partner in a mirror.
        sigma: > 0.

    Returns:
        Scalar >= 0.
    """
    assert said.maps is not None
    rows, columns, near = on_grid(said, targets, sigma)
    log_said = said.maps.flatten(2).log_softmax(dim=2).view_as(said.maps)
    with torch.autocast(log_said.device.type, enabled=False):  # a product of matrices would be one of half precision
        crossed = torch.einsum("bjh,bjhw,bjw->bj", rows.exp(), log_said, columns.exp())
    entropy = (rows.exp() * rows).sum(dim=-1) + (columns.exp() * columns).sum(dim=-1)  # of a product: the sum
    return over_known(entropy - crossed, near, targets)
