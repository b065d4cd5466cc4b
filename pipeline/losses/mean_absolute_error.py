"""Mean absolute error: what is fitted is the median, and a few numbers that are far off move it little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

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

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return MeanAbsoluteError()


class MeanAbsoluteError(OverKnown):
    """As torch's `l1_loss` where all is known."""

    def forward(self, said: Tensor | Pointing, targets: Tensor) -> Tensor:
        """Numbers float [B, T'] and the true ones, nan where one is not known, or places and points: a scalar >= 0."""
        told, true, known = beside(said, targets)
        return mean_over((told - true).abs(), known)
