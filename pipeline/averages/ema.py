"""Exponential moving average: weights that follow those in training at a distance, and are smoother than they are.

Source: Polyak, Juditsky. Acceleration of Stochastic Approximation by Averaging, 1992; the memory that is short at
first is that of TensorFlow's ExponentialMovingAverage (`num_updates`).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from pipeline.averages._copies import Copies
from pipeline.training import Average, AverageConfig


class Config(AverageConfig):
    """After each step, of all weights, and of the statistics of batch normalisation as well."""

    decay: float = Field(0.999, ge=0, lt=1)
    """Share of the average that stays after a step: it looks back over some 1 / (1 - decay) steps, and never farther
    than a ninth of those taken so far."""

    def build(self, network: nn.Module, steps: int) -> Average | None:
        """See `AverageConfig.build`."""
        return MovingAverage(network, self.decay)


class MovingAverage(Average):
    """See the module."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.copies = Copies(network)

    def update(self, network: nn.Module, step: int) -> None:
        """See `Average.update`."""
        self.copies.move(network, 1 - min(self.decay, (1 + step) / (10 + step)))

    def weights(self) -> dict[str, Tensor] | None:
        """See `Average.weights`."""
        return self.copies.tensors

    def state_dict(self) -> dict[str, Any]:
        """See `Average.state_dict`."""
        return self.copies.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Average.load_state_dict`."""
        self.copies.load_state_dict(state)
