"""The loop: it yields after every step, and whoever called it decides what to note, to save, and when to stop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from pipeline.answering import Answers
from pipeline.contracts import MetricConfig, ScheduleConfig, TaskConfig, Views
from pipeline.dataset import Split
from pipeline.telling import Held
from pipeline.train.batches import Batch
from pipeline.train.learner import Learner, counted

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Arithmetic(NamedTuple):
    """How a step is computed."""

    precision: str
    memory_format: str

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(device.type, DTYPES[self.precision])


@dataclass
class Machine:
    """What a step moves: the weights, the optimizer and its loss scale, on one device."""

    learner: Learner
    optimizer: Optimizer
    device: torch.device
    arithmetic: Arithmetic
    scaler: torch.amp.GradScaler

    @classmethod
    def assemble(cls, learner: Learner, optimizer: Optimizer, device: torch.device, arithmetic: Arithmetic) -> Machine:
        """Lay the learner out as `arithmetic` says and put a loss scaler beside it where half precision needs one."""
        learner.arrange(MEMORY_FORMATS[arithmetic.memory_format])
        scaler = torch.amp.GradScaler(device.type, enabled=arithmetic.precision == "float16")
        return cls(learner, optimizer, device, arithmetic, scaler)

    def parameters(self) -> int:
        """Weights that training moves."""
        return sum(weights.numel() for weights in self.learner.network.parameters() if weights.requires_grad)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, but for the position."""
        return {
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def step(self, batch: Batch) -> Tensor:
        """Learn from one batch; the mean loss, a scalar left on the device."""
        # The copies are waited for: the input path fills this batch's memory again a few steps later.
        pictures, targets = batch.pictures.to(self.device), batch.targets.to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        with self.arithmetic.autocast(self.device):
            loss: Tensor = self.learner(pictures, targets)[0]
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


class Step(NamedTuple):
    """One step done."""

    position: int
    """Within the epoch, 0-based."""
    loss: Tensor
    """Mean over the batch, a scalar left on the device: reading it waits for the device."""
    learning_rate: float


def train_epoch(
    machine: Machine, batches: Iterable[Batch], rates: Iterable[float], seed: int, epoch: int, first: int = 0
) -> Iterator[Step]:
    """Learn from each batch, and yield after it.

    Args:
        machine: moved in place.
        batches: from step `first` of the epoch on.
        rates: the learning rate of each.
        seed: of the run; dropout is a function of (seed, epoch, step), so no generator has to be saved.
        epoch: 0-based.
        first: index of the first batch.
    """
    machine.learner.train()
    for index, (batch, rate) in enumerate(zip(batches, rates, strict=False), start=first):
        torch.manual_seed(counted(seed, "step", epoch, index))
        for group in machine.optimizer.param_groups:
            group["lr"] = rate
        yield Step(index, machine.step(batch), rate)


def learning_rates(
    schedule: ScheduleConfig, base: float, epoch: int, steps: int, epochs: int, first: int
) -> list[float]:
    """The learning rates of an epoch's steps from `first` on."""
    return [base * schedule.factor(epoch * steps + index, steps, epochs) for index in range(first, steps)]


class Score(NamedTuple):
    """What decides."""

    task: TaskConfig
    metric: MetricConfig


class Validation(NamedTuple):
    """What a network is worth on the validation split."""

    loss: float
    score: float
    answers: Answers


def validate(machine: Machine, batches: Iterable[Batch], split: Split, seen: Views, score: Score) -> Validation:
    """Score the network as it stands on the validation split.

    Args:
        machine: with the network.
        batches: of every view of the split, in order.
        split: the truth.
        seen: the views.
        score: from answers to what they are worth.
    """
    machine.learner.eval()
    total, count, outputs = torch.zeros((), dtype=torch.float64), 0, Held(score.task, seen)
    with torch.inference_mode():
        for batch in batches:
            with machine.arithmetic.autocast(machine.device):
                pictures, targets = batch.pictures.to(machine.device), batch.targets.to(machine.device)
                loss, answers = machine.learner.validate(pictures, targets)
            total += loss.double().cpu() * len(batch.targets)
            count += len(batch.targets)
            outputs.add(answers.float().cpu().numpy())
    answered = score.task.answers(split, outputs.told)
    worth = score.metric.score(answered, np.ones((1, len(split))))[0]
    return Validation(loss=total.item() / count, score=float(worth), answers=answered)
