"""Poisson loss: the surprise, in nats, at a count, where its rate was said.

Source: Cameron, Trivedi. Regression Analysis of Count Data, 1998, section 3.2 (log-likelihood with a logarithmic link).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._known import OverKnown, known_of, mean_over

STEEPEST = 15.0
"""Logarithm of a rate of 3.3 million, beyond which the cost of saying too many grows as a line does."""


class Config(LossConfig):
    """The mean over the known counts of a batch; the network says the logarithms of rates, of a map of each pixel's."""

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset(
        {(Output.VECTOR, Target.COUNTS), (Output.MAP, Target.COUNTS)}
    )

    full: bool = False
    """Whether the logarithm of the count's factorial is added, by Stirling: the same is learnt, and the loss is nearly
    that of the likelihood."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return Poisson(self.full)


class Poisson(OverKnown):
    """As torch's `poisson_nll_loss` where all is known."""

    def __init__(self, full: bool) -> None:
        super().__init__()
        self.full = full

    def forward(self, said: Tensor, targets: Tensor) -> Tensor:
        """Logarithms of rates, float [B, K], and true counts, nan where one is not known, to a scalar."""
        true, known = known_of(targets)
        steep = said.clamp(max=STEEPEST)
        costs = steep.exp() * (1 + said - steep) - true * said
        if self.full:
            above = true.clamp(min=1.0)
            stirling = above * above.log() - above + 0.5 * (2 * math.pi * above).log()
            costs = costs + torch.where(true > 1, stirling, 0.0)
        return mean_over(costs, known)
