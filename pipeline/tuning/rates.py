"""What a range test says: from losses at growing learning rates to the rate that is proposed.

Sources: Smith. Cyclical Learning Rates for Training Neural Networks, 2015, section 3.3; Smith. A Disciplined Approach
to Neural Network Hyper-Parameters, 2018, section 4. The two classic readings of the curve, where the loss falls fastest
and a tenth of where it is lowest, are those of fastai's `lr_find`. Proposed is the rate midway, by factors, between
where it falls fastest and where it is lowest: neither end's noise moves it far, and both readings are too careful for
the largest rate of a schedule. Both must lie within the range: one that begins while the loss falls already, or ends
before it rises again, shows no more than where it was cut off, and nothing is proposed from it. (Measured on digits, 10
epochs, validation loss of two seeds: `convnet` with SGD 0.337 at the steepest point, 0.345 at a tenth of the lowest,
0.324 near the middle; with AdamW 0.321, 0.317, 0.316; `lenet5` with AdamW 0.410, 0.456, 0.366.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.training import OptimizerConfig

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
EDGE = 0.5
"""Decades that a range shows before its steepest point, at least: a loss takes about one to fall, half of it before."""
BEYOND = 100.0
"""Factor by which another range is proposed to reach further."""
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
        """What is proposed, midway between the two by factors, in two digits."""
        return rounded(math.sqrt(self.steepest * self.lowest))


class Doubt(NamedTuple):
    """Why the curve proposes nothing."""

    why: str
    """And what to try, as the rest of a sentence."""
    smoothed: list[float]
    """The losses, of as many points as are finite; none where there are too few."""


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


def proposal(points: Sequence[Point]) -> Proposal | Doubt:
    """What the curve says.

    Args:
        points: at growing rates, up to where it diverged or the test ended.
    """
    low, high = points[0].rate, points[-1].rate
    finite = [point for point in points if math.isfinite(point.loss)]
    if len(finite) < FEWEST:
        return Doubt(f"at {high:.2g}, after {len(points)} steps, the loss had diverged; try {_lower(low)}", [])
    places, losses = np.log10([point.rate for point in finite]), np.array([point.loss for point in finite])
    tenth = max(3, len(losses) // 10)
    first, last = float(np.median(losses[:tenth])), float(np.median(losses[-tenth:]))
    scatter = float(np.median(np.abs(np.diff(losses)))) / MEDIAN_STEP
    # Where it diverges, single losses are of any height: they say that it is no better than at first, and no more.
    smooth, left = smoothed(places, np.minimum(losses, first + 2 * scatter))
    least, known = int(np.argmin(smooth)), smooth.tolist()
    if first - smooth[least] <= FALL * scatter * left[least]:
        if last > first + 2 * scatter:
            return Doubt(f"from {low:g} on the loss only rises, beyond the best rate; try {_lower(low)}", known)
        return Doubt(
            f"from {low:g} to {high:.2g} the loss falls by no more than it scatters; try larger rates "
            f"({_higher(high)}), more steps (--steps {4 * len(points)}), or look at the curve",
            known,
        )
    # Of a bottom that is flat but for noise, the middle.
    bottom = np.flatnonzero(smooth <= smooth[least] + scatter * left[least])
    lowest = int(np.median(bottom))
    steepest = int(np.argmin(np.gradient(smooth, places)[: least + 1]))
    if places[steepest] < places[0] + EDGE:
        return Doubt(f"the loss fell fastest near {low:g}, the beginning of the range; try {_lower(low)}", known)
    if bottom[-1] == len(smooth) - 1:
        how = "was still falling" if least == bottom[-1] else "had not risen again"
        return Doubt(f"the loss {how} at {high:.2g}, the end of the range; try {_higher(high)}", known)
    return Proposal(finite[steepest].rate, finite[lowest].rate, known)


def scaled(optimizer: OptimizerConfig, rate: float) -> dict[str, float]:
    """Every learning rate of an optimizer, by its option, where `lr` is `rate`: a test moves all by one factor."""
    factor = rate / optimizer.lr
    others = [name for name in type(optimizer).model_fields if name.endswith("_lr")]
    return {"lr": rate} | {name: float(f"{getattr(optimizer, name) * factor:.3e}") for name in others}


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


def _lower(low: float) -> str:
    return f"--from {rounded(low / BEYOND):g}"


def _higher(high: float) -> str:
    return f"--to {rounded(high * BEYOND):g}"
