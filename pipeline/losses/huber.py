"""Huber loss: squared error where it is small, absolute error where it is large.

Source: Huber. Robust Estimation of a Location Parameter, 1964.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._known import OverKnown, beside, mean_over
from pipeline.networks import Pointing


class Config(LossConfig):
    """The mean over the known numbers of a batch, each as it is learnt: see `pipeline.numbers`.

    Of points these are their coordinates, in hundredths of the picture's side.
    """

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset(
        {(Output.VECTOR, Target.NUMBERS), (Output.VECTOR, Target.POINTS), (Output.POINTS, Target.POINTS)}
    )

    delta: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Where an error stops being small, in deviations of the training pictures; of points in hundredths of the side."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return Huber(self.delta)


class Huber(OverKnown):
    """As torch's `huber_loss` where all is known."""

    def __init__(self, delta: float) -> None:
        super().__init__()
        self.delta = delta

    def forward(self, said: Tensor | Pointing, targets: Tensor) -> Tensor:
        """Numbers float [B, T'] and the true ones, nan where one is not known, or places and points: a scalar >= 0."""
        told, true, known = beside(said, targets)
        return mean_over(F.huber_loss(told, true, reduction="none", delta=self.delta), known)
