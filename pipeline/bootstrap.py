"""The bootstrap: what a score could have been on other images like these.

A resample draws N of the N test images with replacement, and is kept as how often each was drawn. Resample r
is a function of (seed, r), so two models, or two metrics, meet the same resamples.

Source: Efron, Tibshirani. An Introduction to the Bootstrap, 1993, chapters 6 and 13 (percentile interval).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

Score = Callable[[np.ndarray], np.ndarray]
"""Weights of the images [R, N] -> [R]: `MetricConfig.score` of some answers."""
CHUNK = 2_000_000
"""Weights held at a time, 16 MB of them; a metric needs some six times that."""
POWER = 0.8


class Interval(NamedTuple):
    """A score and where it plausibly lies; nan where it is undefined."""

    value: float
    low: float
    high: float


class Paired(NamedTuple):
    """Two models on the same images: challenger minus champion."""

    difference: Interval
    """Two-sided, at `confidence`."""
    lower: float
    """One-sided bound: with `confidence`, the true difference is not below it."""
    upper: float
    """Likewise: it is not above it."""
    better: float
    """Share of the resamples in which the challenger scores higher."""
    spread: float
    """Standard error of the difference; 0 if the models never differ."""
    detectable: float
    """Smallest true difference that these images show in 80 of 100 such tests; 0 if the models never differ."""


def draws(images: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn, in portions that fit in memory.

    Args:
        images: N.
        count: R.
        seed: >= 0; another seed, other resamples. The first resamples of a longer run are the same.

    Yields:
        float64 [some, N], R rows in all, each summing to N.
    """
    portion = max(1, CHUNK // max(1, images))
    for start in range(0, count, portion):
        rows = range(start, min(start + portion, count))
        yield np.stack([_draw(images, seed, row) for row in rows]).astype(np.float64)


def interval(score: Score, images: int, *, resamples: int, confidence: float, seed: int) -> Interval:
    """A score with its percentile bootstrap interval.

    Args:
        score: what to compute.
        images: N.
        resamples: R.
        confidence: share of such intervals that hold the truth, as 0.95.
        seed: of the resamples.

    Returns:
        The score of the images as they are, and the bounds; resamples that leave it undefined are passed over.
    """
    value = _plain(score, images)
    low, high = _bounds(_scores(score, images, resamples, seed), confidence)
    return Interval(value, low, high)


def paired(challenger: Score, champion: Score, images: int, *, resamples: int, confidence: float, seed: int) -> Paired:
    """Test whether the challenger scores higher than the champion, on the same resamples of the same images.

    Args:
        challenger: its score; higher is better: hand in the negative of one where lower is.
        champion: likewise.
        images: N.
        resamples: R.
        confidence: of the interval and of the one-sided bound, as 0.95.
        seed: of the resamples.
    """
    gaps = _scores(challenger, images, resamples, seed) - _scores(champion, images, resamples, seed)
    gap = _plain(challenger, images) - _plain(champion, images)
    known = gaps[~np.isnan(gaps)]
    if not len(known):
        return Paired(Interval(gap, np.nan, np.nan), np.nan, np.nan, np.nan, np.nan, np.nan)
    normal = NormalDist()
    spread = float(known.std(ddof=1)) if len(known) > 1 else np.nan
    return Paired(
        difference=Interval(gap, *_bounds(known, confidence)),
        lower=float(np.quantile(known, 1 - confidence)),
        upper=float(np.quantile(known, confidence)),
        better=float((known > 0).mean()),
        spread=spread,
        detectable=(normal.inv_cdf(confidence) + normal.inv_cdf(POWER)) * spread,
    )


def power(spread: float, difference: float, confidence: float) -> float:
    """How often such a test says that a challenger is better that is better by `difference`; nan without a spread.

    Args:
        spread: standard error of the difference, as `paired` found it.
        difference: a true one.
        confidence: of the test, as 0.95.
    """
    normal = NormalDist()
    return normal.cdf(difference / spread - normal.inv_cdf(confidence)) if spread > 0 else float("nan")


def _draw(images: int, seed: int, row: int) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, row], np.uint64)))
    return np.bincount(generator.integers(images, size=images), minlength=images)


def _scores(score: Score, images: int, count: int, seed: int) -> np.ndarray:
    return np.concatenate([score(weights) for weights in draws(images, count, seed)])


def _plain(score: Score, images: int) -> float:
    return float(score(np.ones((1, images)))[0])


def _bounds(scores: np.ndarray, confidence: float) -> tuple[float, float]:
    known = scores[~np.isnan(scores)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
