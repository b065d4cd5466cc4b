"""CosFace: cross-entropy over people, where the cosine to the own person counts as smaller than it is.

Source: Wang et al. CosFace: Large Margin Cosine Loss for Deep Face Recognition, 2018, equation 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._directions import Margins


class Config(LossConfig):
    """The mean over the batch, in nats; it holds a direction for each person of the training images."""

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.EMBEDDING, Target.IDENTITY)})

    margin: float = Field(0.35, ge=0, lt=2)
    """That is taken from the cosine."""
    scale: float = Field(64.0, gt=0, le=1000)
    """What cosines are multiplied by: the smaller, the softer. For few people, 16 to 32 learns sooner."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return CosFace(counts, outputs, self)


class CosFace(Margins):
    """Embeddings float [B, E] and people int64 [B] to a scalar >= 0."""

    def __init__(self, counts: Sequence[int], outputs: int, config: Config) -> None:
        super().__init__(counts, outputs, config.scale)
        self.margin = config.margin

    def worsened(self, cosines: Tensor) -> Tensor:
        """The cosine minus the margin."""
        return cosines - self.margin
