"""The exact McNemar test: which of two models answers more images rightly, told from those on which they part.

An image that both answer rightly, or both wrongly, says nothing of who is better. Of the images on which exactly one
is right, equal models win half each. Counts, everywhere:

    fixed   images that only the challenger answers rightly
    broken  images that only the champion answers rightly

Images that belong together, such as those of one patient, are right or wrong together: such a unit counts once, for
the model that answers more of its images better.

Sources:
    McNemar. Note on the Sampling Error of the Difference Between Correlated Proportions or Percentages, 1947.
    Clopper, Pearson. The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial, 1934.
    Zou, Donner. Construction of Confidence Limits about Effect Measures: A General Approach, 2008.
    Duffy. Asymptotic and Exact Power for the McNemar Test and Its Analogue with R Controls per Case, 1984.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

POWER = 0.8
HAIR = 1e-9
"""Relative; a p-value this close to the limit does not pass, so that rounding never parts the bound from the test."""


def won(better: np.ndarray, units: np.ndarray) -> np.ndarray:
    """By how many images the challenger wins each unit; below 0 the champion does.

    Args:
        better: 1 where the challenger answers an image better, -1 where the champion does, else 0; int64 [N, ...].
        units: of each image, int64 [N], in 0..U-1.

    Returns:
        int64 [U, ...].
    """
    order = np.argsort(units, kind="stable")
    starts = np.flatnonzero(np.diff(units[order], prepend=-1))
    sums: np.ndarray = np.add.reduceat(better[order], starts, axis=0) if len(units) else better
    return sums


def one_sided(fixed: Any, broken: Any) -> Any:
    """How often equal models that part on as many images give the challenger as many or more: p, float64 as given."""
    from scipy.special import bdtrc  # the import takes a third of a second, which readers of verdicts need not wait

    fixed, broken = np.asarray(fixed, np.int64), np.asarray(broken, np.int64)
    return bdtrc(fixed - 1, fixed + broken, 0.5)


def two_sided(fixed: Any, broken: Any) -> Any:
    """How often equal models that part on as many images do so as unevenly or more: p, float64 as given."""
    return np.minimum(1.0, 2 * np.minimum(one_sided(fixed, broken), one_sided(broken, fixed)))


def lower(images: int, fixed: int, broken: int, confidence: float) -> float:
    """One-sided bound of challenger minus champion: above 0 exactly if the one-sided test's p is below 1 - confidence.

    The difference is a product: the share of the images on which the two part, times by how much the challenger wins
    there, -1..1. The bounds of both factors are Clopper's and Pearson's; they become one as Zou and Donner recover
    variances from limits, with the slope along the first factor taken at the bound of the second: where that bound is
    0, so is the product's.
    """
    parted = fixed + broken
    alpha = (1 - confidence) * (1 - HAIR)
    share = parted / images
    won = (fixed - broken) / parted if parted else 0.0
    least_won = 2 * _least(fixed, broken, alpha) - 1
    farthest = _least(parted, images - parted, alpha) if least_won > 0 else 1 - _least(images - parted, parted, alpha)
    return share * won - math.hypot(share * (won - least_won), least_won * (share - farthest))


def interval(images: int, fixed: int, broken: int, confidence: float) -> tuple[float, float]:
    """Two-sided interval of challenger minus champion: `lower` from either side, each with half of the errors."""
    each = (1 + confidence) / 2
    return lower(images, fixed, broken, each), -lower(images, broken, fixed, each)


def power(images: int, discordant: float, difference: float, confidence: float) -> float:
    """How often the one-sided test says that a challenger is better that is better by `difference`; exact.

    Args:
        images: N.
        discordant: share of images on which exactly one of the two is right; at least the difference, and raised to it.
        difference: of the shares that are answered rightly, in -1..1.
        confidence: of the test, as 0.95.
    """
    from scipy.special import bdtrc, gammaln, xlog1py, xlogy

    discordant = max(discordant, abs(difference))
    if not discordant:
        return 0.0
    middle, reach = images * discordant, 9 * math.sqrt(images * discordant * (1 - discordant)) + 30
    first, last = max(0, math.floor(middle - reach)), min(images, math.ceil(middle + reach))
    counts = np.arange(first, last + 1)  # of discordant images; fewer or more come once in 10^15
    ways = gammaln(images + 1) - gammaln(counts + 1) - gammaln(images - counts + 1)
    chances = np.exp(ways + xlogy(counts, discordant) + xlog1py(images - counts, -discordant))
    passed = bdtrc(_needed(first, last, confidence) - 1, counts, (1 + difference / discordant) / 2)
    return float(min(1.0, chances @ passed))


def detectable(images: int, fixed: int, broken: int, confidence: float, wanted: float = POWER) -> float:
    """Smallest true difference that the one-sided test finds with the power `wanted`, where models part as these do.

    Returns:
        In 0..1; nan where the images are too few to show any.
    """
    discordant = (fixed + broken) / images
    small, large = 0.0, 1.0
    if power(images, discordant, large, confidence) < wanted:
        return math.nan
    while large - small > 1e-6:
        middle = (small + large) / 2
        enough = power(images, discordant, middle, confidence) >= wanted
        small, large = (small, middle) if enough else (middle, large)
    return large


def _least(hits: int, misses: int, alpha: float) -> float:
    """The smallest chance under which so many hits or more come with probability alpha."""
    from scipy.special import betaincinv

    return float(betaincinv(hits, misses + 1, alpha)) if hits else 0.0


@lru_cache(maxsize=64)
def _needed(first: int, last: int, confidence: float) -> np.ndarray:
    """How many of m discordant images the challenger must win to pass, for each m from `first` to `last`.

    Returns:
        int64 [last - first + 1]; m + 1 where not even all are enough.
    """
    from scipy.special import ndtri

    alpha = (1 - confidence) * (1 - HAIR)
    parted = np.arange(first, last + 1)
    guess = np.ceil(parted / 2 + np.sqrt(parted) / 2 * ndtri(1 - alpha)).astype(np.int64)  # of the normal curve
    needed: np.ndarray = np.clip(guess, 1, parted + 1)
    while (fewer := (needed > 1) & (one_sided(needed - 1, parted - needed + 1) < alpha)).any():
        needed -= fewer
    while (more := (needed <= parted) & (one_sided(needed, parted - needed) >= alpha)).any():
        needed += more
    return needed
