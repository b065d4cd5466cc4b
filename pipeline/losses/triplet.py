"""Triplet loss: an image has to be nearer to one of the same person than to one of another, by a margin.

Sources: Schroff, Kalenichenko, Philbin. FaceNet, 2015, equation 3 and section 3.2 (semihard); Hermans, Beyer, Leibe. In
Defense of the Triplet Loss for Person Re-Identification, 2017, equation 5 (hard). The triplets and their mining are
those of pytorch-metric-learning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._directions import OfDirections


class Config(LossConfig):
    """Of distances that are 1 minus the cosine; the mean over the triplets of a batch that cost anything.

    A batch needs several images of a person: see the order `runs`. One without such costs 0.
    """

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.EMBEDDING, Target.IDENTITY)})
    compares: ClassVar[bool] = True

    margin: float = Field(0.2, gt=0, le=2)
    """By which the other person has to be farther away."""
    mining: Literal["all", "semihard", "hard"] = "hard"
    """Which triplets count: all of the batch; those where the other person is farther than the same one, but not by the
    margin; or of each image only the one of its farthest own and its nearest other image."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return Triplets(self)


class Triplets(OfDirections):
    """Embeddings float [B, E] and people int64 [B] to a scalar >= 0."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        from pytorch_metric_learning import distances, losses, miners  # late: half a second

        angle = distances.CosineSimilarity()
        self.triplets = losses.TripletMarginLoss(config.margin, distance=angle)
        mining: dict[str, nn.Module] = {
            "semihard": miners.TripletMarginMiner(config.margin, "semihard", distance=angle),
            "hard": miners.BatchHardMiner(distance=angle),
        }
        self.mined = mining.get(config.mining)

    def cost(self, directions: Tensor, people: Tensor) -> Tensor:
        """See `OfDirections.cost`."""
        chosen = self.mined(directions, people) if self.mined else None
        cost: Tensor = self.triplets(directions, people, chosen)
        return cost
