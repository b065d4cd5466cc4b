"""LAMB: Adam whose step for each layer is in proportion to the layer's own weights, for very large batches.

Source: You et al. Large Batch Optimization for Deep Learning: Training BERT in 76 minutes, 2019, algorithm 2. Norms and
biases, whose size says nothing about how far they may move, go by Adam alone, as in NVIDIA's and timm's LAMB; unlike
there, no gradient is clipped here (`train.clip_norm` does that).
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.optim import Optimizer

from pipeline.optimizers._adam import adam
from pipeline.optimizers._weights import with_gradients
from pipeline.training import OptimizerConfig

EPSILON = 1e-6


class Config(OptimizerConfig):
    """Options of LAMB."""

    lr: float = Field(0.005, gt=0, allow_inf_nan=False)
    """Learning rate; the schedule multiplies it."""
    weight_decay: float = Field(0.02, ge=0, allow_inf_nan=False)
    """How fast weights shrink, as part of the step that is brought into proportion; norms and biases do not."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Memory of the mean gradient and of its square; nearer to 1 is longer."""

    def build(self, groups: list[dict[str, Any]]) -> Optimizer:
        """See `OptimizerConfig.build`."""
        return Lamb(groups, {"lr": self.lr, "betas": self.betas, "weight_decay": self.weight_decay})


class Lamb(Optimizer):
    """See above."""

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Learn from the gradients as they are."""
        for group in self.param_groups:
            weights = with_gradients(group)
            if not weights:
                continue
            moves = adam(self, weights, group["betas"], EPSILON)
            if group["weight_decay"]:
                torch._foreach_add_(moves, weights, alpha=group["weight_decay"])
            layers = [place for place, each in enumerate(weights) if each.ndim > 1]
            if layers:
                shares = proportions([weights[place] for place in layers], [moves[place] for place in layers])
                torch._foreach_mul_([moves[place] for place in layers], shares)
            torch._foreach_mul_(moves, -group["lr"])
            torch._foreach_add_(weights, moves)


def proportions(weights: list[Tensor], moves: list[Tensor]) -> list[Tensor]:
    """How many times as long as its step each layer's weights are: scalars; 1 where either has no length."""
    lengths, steps = torch.stack(torch._foreach_norm(weights)), torch.stack(torch._foreach_norm(moves))
    return list(torch.where((lengths > 0) & (steps > 0), lengths / steps, 1.0).unbind())
