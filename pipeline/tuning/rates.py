"""What a range test says: from losses at growing learning rates to the rate that is proposed.

Sources: Smith. Cyclical Learning Rates for Training Neural Networks, 2015, section 3.3; Smith. A Disciplined Approach
to Neural Network Hyper-Parameters, 2018, section 4. The two classic readings of the curve, where the loss falls fastest
and a tenth of where it is lowest, are those of fastai's `lr_find`. Proposed is the rate in the middle, in factors,
between where it falls fastest and where it is lowest: neither end's noise moves it far, and both readings are too
careful for the largest rate of a schedule. (Measured on digits, 10 epochs, validation loss of two seeds: `convnet` with
SGD 0.337 at the steepest point, 0.345 at a tenth of the lowest, 0.324 near the middle; with AdamW 0.321, 0.317, 0.316;
`lenet5` with AdamW 0.410, 0.456, 0.366.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

WIDTH = 0.2
"""Decades over which neighbours are averaged: the deviation of a bell curve."""
DIVERGED = 4.0
"""Times the best loss so far; fastai stops there too."""
MEMORY = 0.9
"""Of the running mean that says whether the loss has diverged."""
FALL = 5.0
"""Times the uncertainty of a smoothed loss: of a hundred of them the lowest lies at 2 to 3 by chance."""
FEWEST = 10
"""Points that make a curve."""
MEDIAN_STEP = 0.954
"""Of the distance of two neighbours, where each scatters by 1 (normal): sqrt(2) x 0.6745."""


class Point(NamedTuple):
    """One step of a range test."""

    rate: float
    loss: float


class Proposal(NamedTuple):
    """What is read off the curve."""

    steepest: float
    """Where the smoothed loss falls fastest per factor of the rate."""
    lowest: float
    """Where it is lowest."""
    smoothed: list[float]
    """The losses, of as many points as are finite."""

    @property
    def rate(self) -> float:
        """What is proposed, in two digits."""
        return rounded(math.sqrt(self.steepest * self.lowest))

    @property
    def below_lowest(self) -> float:
        """A tenth of the rate at which it is lowest."""
        return self.lowest / 10


def growing(low: float, high: float, steps: int) -> list[float]:
    """Rates from low to high, each the same factor above the one before."""
    return [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]


class Watch:
    """Whether the loss has diverged, told from a running mean of it."""

    def __init__(self) -> None:
        self._mean, self._count, self._best = 0.0, 0, math.inf

    def diverged(self, loss: float) -> bool:
        """After one more step."""
        if not math.isfinite(loss):
            return True
        self._count += 1
        self._mean = MEMORY * self._mean + (1 - MEMORY) * loss
        mean = self._mean / (1 - MEMORY**self._count)
        self._best = min(self._best, mean)
        return mean > DIVERGED * self._best > 0


def proposal(points: Sequence[Point]) -> Proposal | None:
    """What the curve says; None where the loss falls by no more than it scatters.

    Args:
        points: at growing rates, up to where it diverged or the test ended.
    """
    finite = [point for point in points if math.isfinite(point.loss)]
    if len(finite) < FEWEST:
        return None
    places, losses = np.log10([point.rate for point in finite]), np.array([point.loss for point in finite])
    first = float(np.median(losses[: max(3, len(losses) // 10)]))
    scatter = float(np.median(np.abs(np.diff(losses)))) / MEDIAN_STEP
    # Where it diverges, single losses are of any height: they say that it is no better than at first, and no more.
    smooth, left = smoothed(places, np.minimum(losses, first + 2 * scatter))
    least = int(np.argmin(smooth))
    if least < len(losses) // 10 or first - smooth[least] <= FALL * scatter * left[least]:
        return None
    # Of a bottom that is flat but for noise, the middle.
    bottom = np.flatnonzero(smooth <= smooth[least] + scatter * left[least])
    lowest = int(np.median(bottom))
    steepest = int(np.argmin(np.gradient(smooth, places)[: least + 1]))
    return Proposal(finite[steepest].rate, finite[lowest].rate, smooth.tolist())


def smoothed(places: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values averaged with their neighbours on both sides, so that no fall is seen late, as by a running mean.

    Args:
        places: decades, float64 [N], rising.
        values: float64 [N].

    Returns:
        The averages, and the share of the scatter of one value that is left in each, both float64 [N].
    """
    weights = np.exp(-0.5 * ((places[:, None] - places[None]) / WIDTH) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights @ values, np.sqrt((weights**2).sum(axis=1))


def rounded(rate: float) -> float:
    """Two digits: what stands behind them is noise."""
    return float(f"{rate:.1e}")
