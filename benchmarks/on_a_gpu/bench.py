"""What the rows stand on: the device, their sizes, steps that are timed and waited for at their end alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from pipeline.devices import set_up

Found = dict[str, Any]
"""A line of results: numbers and words, each by its name."""
T = TypeVar("T")


class Bench(NamedTuple):
    """Where and how large everything is measured."""

    device: torch.device
    rehearsing: bool
    data: Path | None
    """CIFAR-10."""
    workers: int
    """Of the loaders of others."""

    def size(self, real: T, rehearsed: T) -> T:
        """What is measured with, or what stands for it where only the way there is tried out."""
        return rehearsed if self.rehearsing else real

    @property
    def pairs(self) -> int:
        """Turns of each side."""
        return self.size(5, 1)

    @property
    def where(self) -> tuple[str, ...]:
        """Changes of params that say so."""
        return (f"compute.device={self.device.type}", f"compute.threads={self.size(0, 1)}")

    def wait(self) -> None:
        """Until the device has done all that it was asked for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, step: Callable[[], object], steps: int) -> Callable[[], float]:
        """Of one of so many steps, whenever it is asked for; kernels are chosen, compiled and recorded by then."""
        for _ in range(self.size(5, 1)):
            step()

        def turn() -> float:
            self.wait()
            start = time.perf_counter()
            for _ in range(steps):
                step()
            self.wait()
            return (time.perf_counter() - start) / steps

        return turn

    def as_it_comes(self, make: Callable[[], Callable[[], float]]) -> Callable[[], float]:
        """The same of what is made and runs as torch comes, and not as Convoy sets it up."""
        with as_it_comes():
            made = make()

        def turn() -> float:
            with as_it_comes():
                return made()

        return turn


def opened(rehearsing: bool, data: Path | None, workers: int) -> Bench:
    """The bench of this process, whose operations are repeatable from here on, as in Convoy's stages."""
    device = set_up("cpu", 1) if rehearsing else set_up("cuda", 0)
    return Bench(device, rehearsing, data, workers)


@contextmanager
def as_it_comes(searching: bool = True) -> Iterator[None]:
    """Operations need not be repeatable; if told, cuDNN tries which kernel is fastest, as every peer has it do."""
    torch.set_deterministic_debug_mode("default")
    torch.backends.cudnn.benchmark = searching
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode("error")
        torch.backends.cudnn.benchmark = False
