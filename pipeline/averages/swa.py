"""Stochastic weight averaging: the plain mean of weights from the last part of a training.

Source: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson. Averaging Weights Leads to Wider Optima and Better
Generalization, 2018, algorithm 1.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from pipeline.averages._copies import Copies
from pipeline.training import Average, AverageConfig


class Config(AverageConfig):
    """Its worth comes of weights that differ: let the schedule keep the rate up, as `constant` does, or a `final` one.

    Statistics of batch normalisation are measured anew for the mean, on training pictures, as in the paper.
    """

    start: float = Field(0.75, ge=0, lt=1)
    """Share of the training after which it begins."""
    models: int = Field(20, ge=2)
    """Of how many weights it is the mean, at equal distances up to the last step; of every step, if there are fewer."""

    @property
    def begins(self) -> float:
        """See `AverageConfig.begins`."""
        return 1 - (1 - self.start) * (self.models - 1) / self.models

    def idle(self, steps: int) -> str:
        """See `AverageConfig.idle`."""
        if len(self.taken(steps)) > 1:
            return ""
        return f"begins after {self.start:g} of {steps:,} steps, which leaves no two for a mean; lower average.start"

    def build(self, network: nn.Module, steps: int) -> Average | None:
        """See `AverageConfig.build`."""
        return Mean(network, self.taken(steps))

    def taken(self, steps: int) -> frozenset[int]:
        """The steps, of so many, after which weights enter the mean; always the last one."""
        length = max(1, round((1 - self.start) * steps))
        models = min(self.models, length)
        return frozenset(steps - 1 - index * length // models for index in range(models))


class Mean(Average):
    """See the module."""

    refreshes: ClassVar[bool] = True

    def __init__(self, network: nn.Module, taken: frozenset[int]) -> None:
        self.taken = taken
        self.copies = Copies(network)
        self.count = 0

    def update(self, network: nn.Module, step: int) -> None:
        """See `Average.update`."""
        if step in self.taken:
            self.count += 1
            self.copies.move(network, 1 / self.count)

    def weights(self) -> dict[str, Tensor] | None:
        """See `Average.weights`: none before the mean begins."""
        return self.copies.tensors if self.count else None

    def state_dict(self) -> dict[str, Any]:
        """See `Average.state_dict`."""
        return {"copies": self.copies.state_dict(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Average.load_state_dict`."""
        self.copies.load_state_dict(state["copies"])
        self.count = state["count"]
