"""Networks that diverge where they are told to: when a weight has gone a certain way, or in certain steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.convnet import Config
from pipeline.train.assembly import Training
from pipeline.train.batches import Batch
from pipeline.train.learner import counted
from pipeline.train.saved import Progress

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


class Faulty(nn.Module):
    """No number comes of some steps while they are learnt from."""

    def __init__(self, training: Training, bad: Callable[[Progress, int], bool]) -> None:
        """Join its network.

        Args:
            training: to spoil.
            bad: of where it stands, and the seed of a step, whether nothing comes of that.
        """
        super().__init__()
        self.spoilt, self.bad, self.seed = training, bad, 0
        machine, backward = training.machine, training.machine.backward
        machine.learner.network.append(self)  # type: ignore[operator]

        def noted(batch: Batch, seed: int) -> Tensor:
            self.seed = seed
            return backward(batch, seed)

        machine.backward = noted  # type: ignore[method-assign]

    def forward(self, logits: Tensor) -> Tensor:
        bad = self.training and self.bad(self.spoilt.progress, self.seed)
        return logits * math.nan if bad else logits


def seed_of(training: Training, epoch: int, step: int) -> int:
    return counted(training.params.seed, "step", epoch, step)
