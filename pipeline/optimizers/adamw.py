"""AdamW: each weight has a step of its own size, and weight decay that does not pass through it.

Source: Loshchilov, Hutter. Decoupled Weight Decay Regularization, 2017, algorithm 2.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch.optim import Optimizer

from pipeline.training import OptimizerConfig


class Config(OptimizerConfig):
    """torch's AdamW."""

    lr: float = Field(0.001, gt=0, allow_inf_nan=False)
    """Learning rate; the schedule multiplies it."""
    weight_decay: float = Field(0.05, ge=0, allow_inf_nan=False)
    """How fast weights shrink, times the learning rate; norms and biases do not."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Memory of the mean gradient and of its square; nearer to 1 is longer."""

    def build(self, groups: list[dict[str, Any]]) -> Optimizer:
        """See `OptimizerConfig.build`."""
        # One kernel for all that a weight needs: a step over a ResNet-18 takes 8 ms so on two cores, and 39 in torch's
        # own choice. It takes for granted that gradients and states lie in memory as the weights do: autograd sees to
        # the first, `Machine.restore` to the second.
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=True)
