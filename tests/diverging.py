"""A network that diverges where it is told to: when a weight of it has gone a certain way."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.convnet import Config

RATE = 0.01
LIMIT = 16.25 * RATE
WILD = (f"optimizer={{name: sgd, lr: {RATE}, momentum: 0, nesterov: false}}", "schedule={name: constant}")
"""With five steps an epoch it diverges in step 17, 0-based: in the fourth epoch, at its third step."""


class Way(torch.autograd.Function):
    """Zeros whose gradient is one, whatever comes of them."""

    @staticmethod
    def forward(context: Any, weight: Tensor) -> Tensor:
        return torch.zeros_like(weight)

    @staticmethod
    def backward(context: Any, *gradient: Tensor) -> Tensor:
        return torch.ones_like(gradient[0])


class Odometer(nn.Module):
    """Adds nothing to what it is given, and nan once its weight has gone too far; each step moves that by its rate."""

    def __init__(self) -> None:
        super().__init__()
        self.way = nn.Parameter(torch.zeros(()))

    def forward(self, logits: Tensor) -> Tensor:
        far = self.way.detach().abs() > LIMIT
        return logits + Way.apply(self.way) + torch.where(far, math.nan, 0.0)


built = Config.build


def wild(config: Config, channels: int, outputs: int, size: int) -> nn.Module:
    """In place of `Config.build`."""
    return nn.Sequential(*built(config, channels, outputs, size), Odometer())


def stage_train() -> int:
    """`python -m pipeline train` of such a network."""
    from pipeline.__main__ import main

    Config.build = wild  # type: ignore[method-assign]
    return main(["train"])
