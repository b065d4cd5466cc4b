"""What a step moves, and how it is taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.errors import UserError
from pipeline.params import TrainParams, part_name
from pipeline.train.batches import Batch
from pipeline.train.compilation import Compiled
from pipeline.train.learner import Learner, parameter_groups
from pipeline.training import Ascending, Average

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Arithmetic(NamedTuple):
    """How a step is computed."""

    precision: str
    memory_format: str
    execution: str = "eager"
    """eager: operation by operation; compiled: as one program, made when the first step is taken."""

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, DTYPES[self.precision])


class Pace(NamedTuple):
    """What a step is taken with."""

    rate: float
    """The learning rate; of a group of weights, times its `share`."""
    momentum: float | None = None
    """That of the optimizer, or its first beta; None: as its options say."""


@dataclass
class Machine:
    """What a step moves: the weights, their average, the optimizer and its loss scale, on one device."""

    learner: Learner
    module: nn.Module
    """What a step calls: the learner, or the same as several processes share it or a compiler has made it."""
    optimizer: Optimizer
    average: Average | None
    device: torch.device
    arithmetic: Arithmetic
    scaler: torch.amp.GradScaler
    accumulation: int
    """Parts in which a batch is computed."""
    clip_norm: float
    """Of the gradient over all weights, at most; 0: any."""

    @classmethod
    def assemble(
        cls, params: TrainParams, learner: Learner, device: torch.device, arithmetic: Arithmetic, steps: int
    ) -> Machine:
        """Lay the learner out as `arithmetic` says, and put beside it what a training of so many steps needs.

        Raises:
            UserError: the optimizer needs to know every gradient, which half precision may overflow.
        """
        learner.arrange(MEMORY_FORMATS[arithmetic.memory_format])
        optimizer = params.optimizer.build(parameter_groups(learner))
        scaler = torch.amp.GradScaler(device.type, enabled=arithmetic.precision == "float16")
        if scaler.is_enabled() and isinstance(optimizer, Ascending):
            raise UserError(
                f"params.yaml: optimizer {part_name(params.optimizer)!r} cannot skip a step, as float16 asks of one "
                "whose gradient overflows. Set compute.precision to bfloat16 or float32."
            )
        module = Compiled(learner, device) if arithmetic.execution == "compiled" else learner
        average = params.average.build(learner.network, steps)
        options = params.train
        return cls(
            learner, module, optimizer, average, device, arithmetic, scaler, options.accumulation, options.clip_norm
        )

    def parameters(self) -> int:
        """Weights that training moves."""
        return sum(weights.numel() for weights in self.learner.network.parameters() if weights.requires_grad)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, but for the position."""
        return {
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else {},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load_state_dict(state["average"])

    def weights(self) -> dict[str, Tensor]:
        """The network's state that is validated and kept: averaged, where there is an average."""
        averaged = self.average.weights() if self.average else None
        return self.learner.network.state_dict() if averaged is None else averaged

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the network have the weights that are kept, for as long as this lasts."""
        averaged = self.average.weights() if self.average else None
        if averaged is None:
            yield
            return
        network = self.learner.network
        own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(averaged)
        try:
            yield
        finally:
            network.load_state_dict(own)

    def set_pace(self, pace: Pace) -> None:
        """Have the next step taken so."""
        for group in self.optimizer.param_groups:
            group["lr"] = pace.rate * group.get("share", 1.0)
            if pace.momentum is not None:
                if "betas" in group:
                    group["betas"] = (pace.momentum, *group["betas"][1:])
                else:
                    group["momentum"] = pace.momentum

    def step(self, batch: Batch, number: int, seed: int) -> Tensor:
        """Learn from one batch; the mean loss, a scalar left on the device.

        Args:
            batch: what to learn from.
            number: of the step in the whole training, 0-based.
            seed: of all that is random in this step: dropout, blends.
        """
        # The copies are waited for: the input path fills this batch's memory again a few steps later.
        pictures, targets = batch.pictures.to(self.device), batch.targets.to(self.device)
        loss = self.gradient(pictures, targets, seed)
        if isinstance(self.optimizer, Ascending):
            self.optimizer.ascend()
            self.gradient(pictures, targets, seed)
        if self.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.learner.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update(self.learner.network, number)
        return loss

    def gradient(self, pictures: Tensor, targets: Tensor, seed: int) -> Tensor:
        """Leave the gradient of a batch's mean loss with the weights; that loss, a scalar left on the device.

        Args:
            pictures: uint8 [B, S, S, C], on the device.
            targets: of each.
            seed: see `step`.
        """
        torch.manual_seed(seed)
        random = np.random.Generator(np.random.PCG64(seed))
        self.optimizer.zero_grad(set_to_none=True)
        parts = zip(pictures.tensor_split(self.accumulation), targets.tensor_split(self.accumulation), strict=True)
        losses = []
        for some, theirs in parts:
            with self.arithmetic.autocast(self.device):
                loss: Tensor = self.module(*self.learner.prepared(some, theirs, random))[0]
                if len(some) < len(pictures):
                    loss = loss * (len(some) / len(pictures))
            torch.autograd.backward(self.scaler.scale(loss))
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
