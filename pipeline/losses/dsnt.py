"""DSNT: the distance of the mean of each map from the point's place, and how much the map looks like a Gaussian there.

Source: Nibali, He, Morgan, Prendergast. Numerical Coordinate Regression with Convolutional Neural Networks, 2018,
equations 6 to 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._known import FixedOverKnown
from pipeline.losses._points import off, on_grid, over_known
from pipeline.networks import Pointing

SMALLEST = 1e-12
"""Added where a slope would be infinite at 0."""


class Config(LossConfig):
    """The distance is in halves of the side, as in the paper; the likeness is the Jensen-Shannon divergence, in nats.

    A point that is not known costs nothing, nor one that lies so far outside of the picture that no cell is near it;
    the mean is over the known ones.
    """

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.POINTS, Target.POINTS)})

    sigma: float = Field(1.0, gt=0.1, le=20)
    """Deviation of the Gaussian, in cells of the map."""
    weight: float = Field(1.0, ge=0, le=100)
    """What the divergence is multiplied by; 0 leaves maps free, of which only the mean is learnt."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return FixedOverKnown(dsnt, sigma=self.sigma, weight=self.weight)


def dsnt(said: Pointing, targets: Tensor, sigma: float, weight: float) -> Tensor:
    """Mean loss of a batch; 0 where no point is known.

    Args:
        said: with maps float32 [B, J, h, w].
        targets: float32 [B, J, 4]: x, y, known, partner in a mirror.
        sigma: > 0.
        weight: >= 0.

    Returns:
        Scalar >= 0.
    """
    assert said.maps is not None
    rows, columns, near = on_grid(said, targets, sigma)
    squares = (2 * off(said, targets)).square().sum(dim=-1)
    distances = (squares + SMALLEST).sqrt()
    wanted = rows.exp()[..., :, None] * columns.exp()[..., None, :]
    found = said.maps.flatten(2).softmax(dim=2).view_as(said.maps)
    middle = (wanted + found) / 2
    unlike = (_divergence(wanted, middle) + _divergence(found, middle)) / 2
    return over_known(distances + weight * unlike, near, targets)


def _divergence(first: Tensor, second: Tensor) -> Tensor:
    """Kullback-Leibler of distributions over cells [B, J, h, w]: [B, J]."""
    apart = first * ((first + SMALLEST) / (second + SMALLEST)).log()
    return apart.sum(dim=(2, 3))
