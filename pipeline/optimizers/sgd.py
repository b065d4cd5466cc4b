"""Stochastic gradient descent with momentum.

Source: Sutskever, Martens, Dahl, Hinton. On the Importance of Initialization and Momentum in Deep Learning, 2013.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field, model_validator
from torch.optim import Optimizer

from pipeline.optimizers._weights import are_whole, with_momentum
from pipeline.training import OptimizerConfig


class Config(OptimizerConfig):
    """torch's SGD."""

    lr: float = Field(0.1, gt=0, allow_inf_nan=False)
    """Learning rate; the schedule multiplies it."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the last step that is carried into the next."""
    nesterov: bool = True
    """Look ahead along the last step before correcting it; needs momentum."""
    weight_decay: float = Field(0.0005, ge=0, allow_inf_nan=False)
    """Added to the gradient, times the weight; norms and biases are spared."""

    @model_validator(mode="after")
    def _looks_ahead_along_something(self) -> Config:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum > 0; set nesterov to false or momentum to 0.9")
        return self

    def build(self, groups: list[dict[str, Any]]) -> Optimizer:
        """See `OptimizerConfig.build`."""
        return with_momentum(
            torch.optim.SGD(
                groups,
                lr=self.lr,
                momentum=self.momentum,
                nesterov=self.nesterov,
                weight_decay=self.weight_decay,
                fused=are_whole(groups),  # as in adamw: 4 ms instead of 10
            )
        )
