"""A network of vectors as one that tells places."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.networks import Deciding, Pointing

SPREAD = 0.25
"""Share of the side that a number of 1 stands for: fresh networks say numbers of about 1, which is in the picture."""


class Placing(Deciding):
    """Two numbers for each point say how far right of the middle and below it the point is, in quarters of the side.

    So a network that says nothing yet says the middle, whatever the size of its pictures. It does not say how sure it
    is: every score is 1.
    """

    def __init__(self, network: nn.Module) -> None:
        """Of a network from float32 [B, C, S, S] to [B, 2 J]."""
        super().__init__()
        self.network = network

    def raw(self, pictures: Tensor) -> Pointing:
        """See `Deciding.raw`."""
        side = pictures.shape[-1]
        values = self.network(pictures).float()
        return Pointing((0.5 + SPREAD * values.unflatten(1, (-1, 2))) * side, side)

    def answer(self, raw: Pointing) -> Tensor:
        """float32 [B, J, 3]."""
        return torch.cat([raw.places, torch.ones_like(raw.places[..., :1])], dim=2)
