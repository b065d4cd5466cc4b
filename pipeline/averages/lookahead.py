"""Lookahead: slow weights, to which the network comes back every few steps after they have gone part of its way.

Source: Zhang, Lucas, Hinton, Ba. Lookahead Optimizer: k steps forward, 1 step back, 2019, algorithm 1; `rising` is
that of Jordan. 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024 (airbench), which goes all the way at first.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from pipeline.averages._copies import Copies
from pipeline.training import Average, AverageConfig


class Config(AverageConfig):
    """The optimizer's own state stays as it is. Slow weights are validated and kept, with the statistics of batch
    normalisation, which go the same way."""

    every: int = Field(5, ge=1)
    """Steps after which the network comes back."""
    share: float = Field(0.5, gt=0, lt=1)
    """Of the way to the network that slow weights go: all of it would be no average."""
    rising: bool = False
    """What they stay behind grows with the cube of the steps done, from nothing to 1 - share at the last one; airbench
    has a share of 0.226."""

    def idle(self, steps: int) -> str:
        """See `AverageConfig.idle`."""
        if self.every <= steps:
            return ""
        return f"comes back every {self.every:,} steps, and there are {steps:,}; set average.every to less"

    def build(self, network: nn.Module, steps: int) -> Average | None:
        """See `AverageConfig.build`."""
        return Slow(network, self, steps)


class Slow(Average):
    """See the module."""

    def __init__(self, network: nn.Module, config: Config, steps: int) -> None:
        self.config = config
        self.steps = steps
        self.copies = Copies(network)
        self.moved = False

    def update(self, network: nn.Module, step: int) -> None:
        """See `Average.update`: it moves the network too."""
        done = step + 1
        if done % self.config.every:
            return
        behind = (1 - self.config.share) * ((done / self.steps) ** 3 if self.config.rising else 1)
        self.copies.move(network, 1 - behind)
        self.copies.give(network)
        self.moved = True

    def weights(self) -> dict[str, Tensor] | None:
        """See `Average.weights`: none before they have moved."""
        return self.copies.tensors if self.moved else None

    def state_dict(self) -> dict[str, Any]:
        """See `Average.state_dict`."""
        return {"copies": self.copies.state_dict(), "moved": self.moved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Average.load_state_dict`."""
        self.copies.load_state_dict(state["copies"])
        self.moved = state["moved"]
