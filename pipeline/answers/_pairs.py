"""Which boxes lie on which: pairs within groups, without a matrix of all with all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from pipeline.boxes import area

PORTION = 1_000_000
"""Pairs looked at together: some hundred MB."""
Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From the places of n boxes among the first and among the second to how well they agree, float64 [n]."""


def iou(first: np.ndarray, second: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
    """Intersection over union, box by box.

    Args:
        first: float64 [n, 4].
        second: likewise.
        crowd: bool [n]; where True, the first box may be any part of the second: intersection over the first.

    Returns:
        float64 [n], 0 where there is nothing in common, as in pycocotools' `bbIou`.
    """
    with np.errstate(invalid="ignore", over="ignore"):  # a network that has come to nothing says inf and nan
        sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
        common = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0.0)
        own = area(first)
        union = own + area(second) - common
        whole = union if crowd is None else np.where(crowd, own, union)
        return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def overlapping(
    first_groups: np.ndarray, second_groups: np.ndarray, measure: Measure, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of one group that agree well enough.

    Args:
        first_groups: of each of the first boxes, int64 [n].
        second_groups: of each of the second, int64 [m].
        measure: how well pairs agree.
        least: what a pair must reach.

    Returns:
        Place among the first, int64 [p], rising; place among the second, int64 [p]; how well they agree, float64 [p].
    """
    kept = []
    for left, right in _pairs(first_groups, second_groups):
        value = measure(left, right)
        good = value >= least
        kept.append((left[good], right[good], value[good]))
    if not kept:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    lefts, rights, values = zip(*kept, strict=True)
    return np.concatenate(lefts), np.concatenate(rights), np.concatenate(values)


def one_to_one(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which pairs come about if each is taken in turn whose two sides are both still free: int64, their places."""
    gone_left: set[int] = set()
    gone_right: set[int] = set()
    taken = []
    for place, (one, other) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        if one not in gone_left and other not in gone_right:
            gone_left.add(one)
            gone_right.add(other)
            taken.append(place)
    return np.array(taken, np.int64)


def _pairs(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The places of all pairs of one group, those of the first rising, in portions."""
    order = np.argsort(second, kind="stable")
    starts = np.searchsorted(second[order], first, side="left")
    counts = np.searchsorted(second[order], first, side="right") - starts
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(first):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + PORTION, side="right")))
        some = counts[begin:end]
        left = np.repeat(np.arange(begin, end), some)
        place = np.arange(len(left)) - np.repeat(ends[begin:end] - some - before, some)
        yield left, order[np.repeat(starts[begin:end], some) + place]
        begin = end
