"""Supervised contrastive loss: of all other images of the batch, those of the same person have to be the most alike.

Source: Khosla et al. Supervised Contrastive Learning, 2020, equation 2, as pytorch-metric-learning has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._directions import OfDirections, shown_again


class Config(LossConfig):
    """The mean over the images of a batch of whose person it holds another one, in nats.

    A batch needs several images of a person: see the order `runs`. One without such costs 0, and likewise one
    that shows a single person.
    """

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.EMBEDDING, Target.IDENTITY)})
    compares: ClassVar[bool] = True

    temperature: float = Field(0.1, gt=0, le=10)
    """What cosines are divided by: the smaller, the more the nearest images count."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return SupervisedContrastive(self)


class SupervisedContrastive(OfDirections):
    """Embeddings float [B, E] and people int64 [B] to a scalar >= 0."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        from pytorch_metric_learning import losses  # late: half a second

        self.contrast = losses.SupConLoss(config.temperature)

    def total_weight(self, people: Tensor) -> Tensor:
        """See `training.Weighing`."""
        return shown_again(people).sum()

    def cost(self, directions: Tensor, people: Tensor) -> Tensor:
        """See `OfDirections.cost`."""
        cost: Tensor = self.contrast(directions, people)
        return cost
