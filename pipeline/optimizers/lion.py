"""Lion: every weight moves by the same length each step, the way that the sign of its mean gradient says.

Source: Chen et al. Symbolic Discovery of Optimization Algorithms, 2023, algorithm 2. It remembers half of what AdamW
does. The authors take a learning rate 3 to 10 times smaller than AdamW's, and a decay that is larger by as much.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch.optim import Optimizer

from pipeline.optimizers._weights import gradients, states, with_gradients
from pipeline.training import OptimizerConfig


class Config(OptimizerConfig):
    """Options of Lion."""

    lr: float = Field(0.0003, gt=0, allow_inf_nan=False)
    """Learning rate; the schedule multiplies it."""
    weight_decay: float = Field(0.5, ge=0, allow_inf_nan=False)
    """How fast weights shrink, times the learning rate; norms and biases do not."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.99)
    """Share of the mean gradient in what gives the sign, and memory of that mean; nearer to 1 is longer."""

    def build(self, groups: list[dict[str, Any]]) -> Optimizer:
        """See `OptimizerConfig.build`."""
        return Lion(groups, {"lr": self.lr, "betas": self.betas, "weight_decay": self.weight_decay})


class Lion(Optimizer):
    """See above."""

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Learn from the gradients as they are."""
        for group in self.param_groups:
            weights = with_gradients(group)
            if not weights:
                continue
            slopes, means = gradients(weights), states(self, weights, "mean")
            share, memory = group["betas"]
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            moves = torch._foreach_lerp(means, slopes, 1 - share)
            torch._foreach_sign_(moves)
            torch._foreach_mul_(moves, -group["lr"])
            torch._foreach_add_(weights, moves)
            torch._foreach_lerp_(means, slopes, 1 - memory)
