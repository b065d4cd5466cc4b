"""Circular loss: 1 minus the cosine of the angle between what is said and what is true, 0 to 2.

How far from the centre a point is said to lie costs nothing: its direction alone is the answer.

Source: Mardia, Jupp. Directional Statistics, 2000, section 2.3 (circular dispersion).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.errors import UserError
from pipeline.losses._known import OverKnown, known_of, mean_over

SHORTEST = 1e-6
"""Added to a length, so that a point in the centre has a finite gradient."""


class Config(LossConfig):
    """Of numbers that are all circular, the mean over those that are known."""

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.VECTOR, Target.NUMBERS)})

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`.

        Raises:
            UserError: not every number is circular.
        """
        others = 2 * len(counts) - outputs
        if others:
            raise UserError(
                f"params.yaml: loss 'circular' is about angles and their like, and {others} of {len(counts)} numbers "
                "are not in task.circular. Name them there with their periods, or choose another loss: "
                "mean_squared_error learns both."
            )
        return Circular()


class Circular(OverKnown):
    """Of pairs of columns, the cosine and the sine of each number."""

    def forward(self, said: Tensor, targets: Tensor) -> Tensor:
        """Points float [B, 2 T] and the true ones on the circle, nan where one is not known, to a scalar in 0..2."""
        true, known = known_of(targets)
        points, right = (side.reshape(len(side), -1, 2) for side in (said, true))
        largest = points.detach().abs().amax(dim=2, keepdim=True).clamp(min=1.0)  # so that no square is infinite
        points = points / largest
        length = (points.square().sum(dim=2) + SHORTEST**2).sqrt()
        cosine = (points * right).sum(dim=2) / length
        return mean_over(1 - cosine, known.reshape(len(known), -1, 2).all(dim=2))
