"""How much memory is left, and how much a batch will take, before it takes it."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import psutil
import torch

from pipeline.devices import pick
from pipeline.host import limits

FEWEST = 2
"""Sizes from which memory is extrapolated."""
MULTIPLE = 8
"""What batches are a multiple of: matrix units work in tiles of 8."""
FINENESS = 16
"""The last step of a search is at most such a part of the batch."""


class Line(NamedTuple):
    """Memory is affine in the batch: weights, gradients and the optimizer's state, and so much for each picture."""

    fixed: float
    """Bytes."""
    each: float
    """Bytes a picture."""

    @classmethod
    def through(cls, sizes: Sequence[int], peaks: Sequence[float]) -> Line:
        """The line nearest to what was measured, at two sizes or more; neither of its numbers is below 0."""
        x, y = np.array(sizes, float), np.array(peaks, float)
        each, fixed = np.polyfit(x, y, 1)
        if each < 0:
            return cls(float(y.mean()), 0.0)
        if fixed < 0:
            return cls(0.0, float(x @ y / (x @ x)))
        return cls(float(fixed), float(each))

    def at(self, size: int) -> float:
        """Bytes that a batch of `size` takes."""
        return self.fixed + self.each * size


def expected(sizes: Sequence[int], peaks: Sequence[float], size: int) -> float:
    """What a larger batch will take: by the line, or by the last two sizes if these say more.

    Small batches hide in memory that the process has anyway, so the line through all of them may be too flat.
    """
    if len(sizes) < FEWEST:
        return 0.0
    (size_1, size_2), (peak_1, peak_2) = sizes[-2:], peaks[-2:]
    slope = max(0.0, (peak_2 - peak_1) / (size_2 - size_1))
    return max(Line.through(sizes, peaks).at(size), peak_2 + slope * (size - size_2))


def largest(fits: Callable[[int], bool], first: int, most: int) -> int:
    """The largest batch that fits, by doubling, and then by bisection to a multiple of 8.

    Args:
        fits: asked for one size after the other; of a size that does not fit, no larger one does.
        first: size to begin with.
        most: size to end with.

    Returns:
        0 if not even the first fits. The true limit is less than a sixteenth above, or less than 8.
    """
    low, high = 0, first
    while fits(high):
        low = high
        if high == most:
            return most
        high = min(2 * high, most)
    while low and (middle := _between(low, high)):
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _between(low: int, high: int) -> int:
    """A multiple of 8 near the middle; 0 where there is none, or where the two are near enough."""
    middle = (low + high) // 2 // MULTIPLE * MULTIPLE
    middle = middle if middle > low else middle + MULTIPLE
    return middle if low < middle < high and high - low > low // FINENESS else 0


def free_memory() -> int:
    """Bytes that can still be taken here without swapping; a container may leave less than its machine has."""
    return int(min(psutil.virtual_memory().available, limits().left))


def resident_peak() -> int:
    """The most memory that this process has had at a time, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Gauge:
    """How much memory is taken from here on, on the device that `compute.device` asks for."""

    def __init__(self, wanted: str) -> None:
        device = pick(wanted)
        self._cuda = device if device.type == "cuda" else None
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._cuda)
            self.room = torch.cuda.mem_get_info(self._cuda)[0]
        else:
            self.room = free_memory()
        self._before = resident_peak()

    def peak(self) -> int:
        """Bytes, at most at a time: what torch holds on a GPU, else by how much this process has grown."""
        if self._cuda:
            return torch.cuda.max_memory_reserved(self._cuda)
        return max(1, resident_peak() - self._before)


def process_memory(process: int) -> int:
    """Bytes that a process has now; 0 if it has ended."""
    try:
        held: int = psutil.Process(process).memory_info().rss
    except psutil.Error:
        return 0
    return held
