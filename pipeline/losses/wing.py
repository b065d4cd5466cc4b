"""Wing loss: small errors of a point count as their logarithm, so that the last ones are still worth mending.

Source: Feng, Kittler, Awais, Huber, Wu. Wing Loss for Robust Facial Landmark Localisation with Convolutional Neural
Networks, 2018, equation 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._known import FixedOverKnown, beside, mean_over
from pipeline.networks import Pointing


class Config(LossConfig):
    """The mean over both axes of every known point.

    The paper counts in pixels of pictures of 64; here errors are hundredths of the side, so that pictures of any size
    cost alike.
    """

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset(
        {(Output.VECTOR, Target.POINTS), (Output.POINTS, Target.POINTS)}
    )

    width: float = Field(10.0, gt=0, le=100)
    """Errors below this, in hundredths of the side, cost their logarithm; larger ones their size."""
    curvature: float = Field(2.0, gt=0, le=100)
    """How sharply the logarithm bends at 0: less of it has small errors count for more."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return FixedOverKnown(wing, width=self.width, curvature=self.curvature)


def wing(said: Pointing, targets: Tensor, width: float, curvature: float) -> Tensor:
    """Mean wing loss of a batch; 0 where no point is known.

    Args:
        said: of B pictures.
        targets: float32 [B, J, 4]: x, y, known, partner in a mirror.
        width: > 0.
        curvature: > 0.

    Returns:
        Scalar >= 0.
    """
    told, true, known = beside(said, targets)
    errors = (told - true).abs()
    joint = width - width * math.log1p(width / curvature)  # both parts meet at the width
    costs = (width * (errors / curvature).log1p()).where(errors < width, errors - joint)
    return mean_over(costs, known)
