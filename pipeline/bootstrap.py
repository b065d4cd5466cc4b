"""The bootstrap: what a score could have been on other images like these.

A resample draws with replacement as many units as there are, and is kept as how often each image was drawn. A unit is
an image, or all images that belong together, such as those of one patient: they are right or wrong together, so that
ten of them say less than ten of ten patients. Resample r is a function of (seed, r), so two models, or two metrics,
meet the same resamples.

Sources:
    Efron, Tibshirani. An Introduction to the Bootstrap, 1993, chapters 6 and 13 (percentile interval).
    Davison, Hinkley. Bootstrap Methods and their Application, 1997, section 3.8 (units that are drawn whole).
    Hesterberg. What Teachers Should Know About the Bootstrap, 2015, section 5.3 (expanded percentiles, for few images).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

Score = Callable[[np.ndarray], np.ndarray]
"""Weights of the images [R, N] -> [R]: `MetricConfig.score` of some answers."""
Units = np.ndarray
"""For each of N images the number of its unit, int64 [N], each of 0..U-1 at least once: an image that belongs to no
other has one of its own."""
CHUNK = 2_000_000
"""Weights held at a time, 16 MB of them; a metric needs some six times that."""
POWER = 0.8


class Interval(NamedTuple):
    """A score and where it plausibly lies; nan where it is undefined."""

    value: float
    low: float
    high: float


class Paired(NamedTuple):
    """Two models on the same images: challenger minus champion. Bounds are nan where units are too few for them."""

    difference: Interval
    """Two-sided, at `confidence`."""
    lower: float
    """One-sided bound: with `confidence`, the true difference is not below it."""
    upper: float
    """Likewise: it is not above it."""
    spread: float
    """Standard error of the difference; 0 if every resample gives the same, nan if units are too few."""
    detectable: float
    """Smallest true difference that these images show in 80 of 100 such tests; 0 if every resample gives the same, nan
    if they show none."""


def alone(images: int) -> Units:
    """Each of the images is by itself."""
    return np.arange(images)


def how_many(units: Units) -> int:
    """U."""
    return int(units.max()) + 1 if len(units) else 0


def draws(units: Units, count: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn, in portions that fit in memory.

    Args:
        units: that are drawn.
        count: R.
        seed: >= 0; another seed, other resamples. The first resamples of a longer run are the same.

    Yields:
        float64 [some, N], R rows in all; over units each sums to U.
    """
    number, portion = how_many(units), max(1, CHUNK // max(1, len(units)))
    for start in range(0, count, portion):
        rows = range(start, min(start + portion, count))
        yield np.stack([_draw(number, seed, row)[units] for row in rows]).astype(np.float64)


def interval(score: Score, units: Units, *, resamples: int, confidence: float, seed: int) -> Interval:
    """A score with its percentile bootstrap interval.

    Args:
        score: what to compute.
        units: that are drawn.
        resamples: R.
        confidence: share of such intervals that hold the truth, as 0.95.
        seed: of the resamples.

    Returns:
        The score of the images as they are, and the bounds; resamples that leave it undefined are passed over.
    """
    value = _plain(score, len(units))
    low, high = _bounds(_scores(score, units, resamples, seed), confidence)
    return Interval(value, low, high)


def paired(
    challenger: Score, champion: Score, units: Units, trials: int, *, resamples: int, confidence: float, seed: int
) -> Paired:
    """Test whether the challenger scores higher than the champion, on the same resamples of the same images.

    Resamples of few units differ too little from each other, so the bounds lie farther out than a percentile, as far
    as Student's t does: of equal models whose scores differ normally, 6 in 100 pass at 5 images and 5 at 10, where
    percentiles let 11 and 8 pass. A resample that leaves either score undefined counts as one beyond both bounds.

    Args:
        challenger: its score; higher is better: hand in the negative of one where lower is.
        champion: likewise.
        units: that are drawn.
        trials: how many of them tell of a model by themselves.
        resamples: R.
        confidence: of the interval and of the one-sided bound, as 0.95.
        seed: of the resamples.
    """
    gaps = _scores(challenger, units, resamples, seed) - _scores(champion, units, resamples, seed)
    gap = _plain(challenger, len(units)) - _plain(champion, len(units))
    known = gaps[~np.isnan(gaps)]
    unknown = 1 - len(known) / len(gaps)
    low, high = _beyond(known, unknown, _tail(trials, (1 - confidence) / 2))
    lower, upper = _beyond(known, unknown, _tail(trials, 1 - confidence))
    # The chance that equal models part one way on every unit: no test of so few could tell them from others.
    if math.isnan(gap) or math.isnan(lower) or 0.5**trials >= 1 - confidence:
        return Paired(Interval(gap, np.nan, np.nan), np.nan, np.nan, np.nan, np.nan)
    spread = float(known.std(ddof=1)) * _widened(trials)
    detectable = (_student(trials, confidence) + NormalDist().inv_cdf(POWER)) * spread
    return Paired(Interval(gap, low, high), lower, upper, spread, detectable)


def parted(challenger: Score, champion: Score, units: Units) -> int:
    """How many units tell two models apart: those whose images alone give two scores, or no score.

    Where few of many units do, the rest make a difference no surer, and so they are no `trials` of `paired`.
    No unit does by itself under a score that only compares units, such as rank 1 of people.
    """
    number, portion, count = how_many(units), max(1, CHUNK // max(1, len(units))), 0
    for start in range(0, number, portion):
        rows = np.arange(start, min(start + portion, number))
        weights = (units == rows[:, None]).astype(np.float64)
        count += int((challenger(weights) != champion(weights)).sum())  # nan is not itself
    return count


def power(spread: float, difference: float, trials: int, confidence: float) -> float:
    """How often such a test says that a challenger is better that is better by `difference`; nan without a spread.

    Args:
        spread: standard error of the difference, as `paired` found it.
        difference: a true one.
        trials: as `paired` was told.
        confidence: of the test, as 0.95.
    """
    return NormalDist().cdf(difference / spread - _student(trials, confidence)) if spread > 0 else float("nan")


def _draw(units: int, seed: int, row: int) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, row], np.uint64)))
    return np.bincount(generator.integers(units, size=units), minlength=units)


def _scores(score: Score, units: Units, count: int, seed: int) -> np.ndarray:
    return np.concatenate([score(weights) for weights in draws(units, count, seed)])


def _plain(score: Score, images: int) -> float:
    return float(score(np.ones((1, images)))[0])


def _tail(trials: int, alpha: float) -> float:
    """The percentile of the resamples that stands for the error `alpha`; alpha itself of many trials."""
    return NormalDist().cdf(-_widened(trials) * _student(trials, 1 - alpha)) if trials > 1 else 0.0


def _widened(trials: int) -> float:
    """By how much samples of so many units differ more than resamples of one sample do."""
    return math.sqrt(trials / (trials - 1))


def _student(trials: int, confidence: float) -> float:
    """What a mean of so many, in standard errors that are estimated from them, is below with that confidence."""
    from scipy.special import stdtrit  # the import takes a third of a second, which `interval` need not wait

    return float(stdtrit(trials - 1, confidence))


def _beyond(known: np.ndarray, unknown: float, tail: float) -> tuple[float, float]:
    """The bounds beyond either of which a share `tail` of the resamples lies; nan where the unknown ones are as many.

    Args:
        known: scores that are defined.
        unknown: the share of all resamples whose scores are not.
        tail: of all resamples.
    """
    if unknown >= tail:
        return np.nan, np.nan
    share = (tail - unknown) / (1 - unknown)
    low, high = np.quantile(known, [share, 1 - share])
    return float(low), float(high)


def _bounds(scores: np.ndarray, confidence: float) -> tuple[float, float]:
    known = scores[~np.isnan(scores)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
