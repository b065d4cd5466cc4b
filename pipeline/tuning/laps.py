"""Where the time of the training loop goes: a stopwatch that is always in one of its phases.

It listens at the modules and the optimizer by torch's own hooks, so what is timed is the loop that trains, untouched.
On a GPU a phase is timed by events on the device: launching is quick, and the work is done later.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.train.assembly import Training
from pipeline.train.batches import Batch
from pipeline.training import Average

INPUT = "waiting for input"
COPY = "copy to the device"
PREPARE = "normalising, mixing"
FORWARD = "forward"
BACKWARD = "backward"
OPTIMIZER = "optimizer"
AVERAGE = "average"
NOTING = "notes and checkpoints"
PHASES = (INPUT, COPY, PREPARE, FORWARD, BACKWARD, OPTIMIZER, AVERAGE, NOTING)
"""In the order of a step. Clipping is counted as `backward`."""


class Laps:
    """A stopwatch: each call of `lap` ends a phase and begins another."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._names: list[str] = []
        self._moments: list[Any] = []

    def lap(self, name: str) -> None:
        """Begin this phase."""
        self._names.append(name)
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._moments.append(event)
        else:
            self._moments.append(time.perf_counter())

    def seconds(self) -> dict[str, float]:
        """Of each phase, all its times together; that which is at work has none yet."""
        if self._cuda:
            torch.cuda.synchronize()
        total = dict.fromkeys(PHASES, 0.0)
        for name, start, end in zip(self._names, self._moments, self._moments[1:], strict=False):
            total[name] += start.elapsed_time(end) / 1000 if self._cuda else end - start
        return total

    def clear(self) -> None:
        """Forget all but the phase at work."""
        self._names, self._moments = self._names[-1:], self._moments[-1:]

    def around(self, batches: Iterable[Batch]) -> Generator[Batch]:
        """The batches, each waited for and then handed over."""
        self.lap(INPUT)
        for batch in batches:
            self.lap(COPY)
            yield batch
            self.lap(INPUT)

    @contextmanager
    def listening(self, training: Training) -> Iterator[None]:
        """Have the steps of a training say in which phase they are."""
        machine = training.machine
        removable = [
            machine.learner.normalise.register_forward_pre_hook(lambda *_: self.lap(PREPARE)),
            machine.module.register_forward_pre_hook(lambda *_: self.lap(FORWARD)),
            machine.module.register_forward_hook(lambda *_: self.lap(BACKWARD)),
            machine.optimizer.register_step_pre_hook(lambda *_: self.lap(OPTIMIZER)),
            machine.optimizer.register_step_post_hook(lambda *_: self.lap(AVERAGE if average else NOTING)),
        ]
        average = machine.average
        if average:
            machine.average = _Timed(average, self)
        try:
            yield
        finally:
            machine.average = average
            for hook in removable:
                hook.remove()


class _Timed(Average):
    """An average whose updates end the phase."""

    def __init__(self, average: Average, laps: Laps) -> None:
        self._average, self._laps = average, laps

    def update(self, network: nn.Module, step: int) -> None:
        self._average.update(network, step)
        self._laps.lap(NOTING)

    def weights(self) -> dict[str, Tensor] | None:
        return self._average.weights()

    def state_dict(self) -> dict[str, Any]:
        return self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._average.load_state_dict(state)
