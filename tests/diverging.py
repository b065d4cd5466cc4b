"""Networks that diverge where they are told to: when a weight has gone a certain way, or in certain steps."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.bundle import digest_of
from pipeline.failpoints import VARIABLE
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
        self.way = nn.Parameter(torch.zeros(1))

    def forward(self, logits: Tensor) -> Tensor:
        far = self.way.detach().abs() > LIMIT
        return logits + Way.apply(self.way) + torch.where(far, math.nan, 0.0)


built = Config.build


def wild(config: Config, channels: int, outputs: int, size: int) -> nn.Module:
    """In place of `Config.build`."""
    return nn.Sequential(*built(config, channels, outputs, size), Odometer())


def apart(config: Config, channels: int, outputs: int, size: int) -> nn.Module:
    """Likewise, of a network in which no picture sees the others of its batch."""
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, outputs), Odometer())


def stage_train(build: Callable[..., nn.Module] = wild, point: str = "", rank: int = 0) -> int:
    """`python -m pipeline train` of such a network.

    Args:
        build: in place of `Config.build`.
        point: where this process dies, see `failpoints`; empty: nowhere.
        rank: of the process that does so, where several train together.
    """
    from pipeline.__main__ import main

    if point and int(os.environ.get("RANK", 0)) == rank:
        os.environ[VARIABLE] = point
    Config.build = build  # type: ignore[method-assign]
    return main(["train"])


def left(project: Path) -> dict[str, str]:
    """What a training has left: its notes, and the digest of its model."""
    notes = {path.name: path.read_text() for path in sorted((project / "out/training").iterdir())}
    return notes | {"model": digest_of(project / "out/model")}


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
