"""What two masks of one picture have in common: pixels by class, and boundaries by class.

Void pixels of the truth count for nothing, wherever the answer puts a boundary or a class.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.masks import VOID

TOLERANCE = 0.0075
"""Share of the picture's diagonal that two boundaries may lie apart and still be the same (Csurka et al. 2013)."""


class Pixels(NamedTuple):
    """Known pixels by class: of N images int64 [N, K], or summed up under R weightings float64 [R, K]."""

    true: np.ndarray
    """Of the class."""
    said: np.ndarray
    """Said to be of it."""
    both: np.ndarray
    """Rightly said to be of it."""

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union; nan for a class that is neither true nor said."""
        return ratio(self.both, self.true + self.said - self.both, np.nan)

    @property
    def dice(self) -> np.ndarray:
        """Twice the intersection over the sum; nan for a class that is neither true nor said."""
        return ratio(2 * self.both, self.true + self.said, np.nan)


def confusion(true: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """Known pixels by true class (row) and said class (column): int64 [K, K + 1], the last column said to be void.

    Args:
        true: uint8 [H, W].
        said: uint8 [H, W].
        classes: K.

    Raises:
        ValueError: the masks are of different sizes, or hold a class that there is not.
    """
    if true.shape != said.shape:
        raise ValueError(f"a mask of {_size(said)} pixels for a picture of {_size(true)}")
    known = true != VOID
    rows, columns = true[known].astype(np.int64), said[known].astype(np.int64)
    columns[columns == VOID] = -1
    if max(rows.max(initial=0), columns.max(initial=0)) >= classes:
        raise ValueError(f"a mask with another class than these {classes}")
    columns[columns == -1] = classes
    counts = np.bincount(rows * (classes + 1) + columns, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


def boundaries(true: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """How well the boundaries of each class agree.

    A pixel is on the boundary of its class if one of its four neighbours is known to be of another. The edge of the
    picture and that of what is void are no boundaries.

    Args:
        true: uint8 [H, W].
        said: uint8 [H, W].
        classes: K.

    Returns:
        int64 [K, 4]: true boundary pixels; of them, those within the tolerance of a said one; said boundary pixels; of
        them, those within the tolerance of a true one.
    """
    known = true != VOID
    reach = tolerance(*true.shape)
    on_true, on_said = _edges(true, known), _edges(said, known)
    counts = np.zeros((classes, 4), np.int64)
    present = np.union1d(np.unique(true[on_true]), np.unique(said[on_said]))
    for index in present[present < classes].tolist():
        first, second = on_true & (true == index), on_said & (said == index)
        counts[index] = _close(first, second, reach) + _close(second, first, reach)
    return counts


def tolerance(height: int, width: int) -> int:
    """How many pixels apart two boundaries of a picture may lie and still be the same: rounded up, as DAVIS does."""
    return math.ceil(TOLERANCE * math.hypot(height, width))


def boundary_scores(counts: np.ndarray) -> np.ndarray:
    """F1 of the boundaries: counts int64 [..., 4] of `boundaries` to float64 [...]; nan where neither has any."""
    true, true_met, said, said_met = np.moveaxis(counts.astype(np.float64), -1, 0)
    recall = np.divide(true_met, true, out=np.zeros_like(true), where=true > 0)
    precision = np.divide(said_met, said, out=np.zeros_like(said), where=said > 0)
    both = precision + recall
    score = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return np.where(true + said > 0, score, np.nan)


def mean_known(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is not nan; nan where all is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(axis=axis), known.sum(axis=axis), np.nan)


def _edges(mask: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Known pixels beside a known one of another class: bool [H, W]."""
    edge = np.zeros(mask.shape, bool)
    for axis in (0, 1):
        before, after = (slice(None),) * axis + (slice(None, -1),), (slice(None),) * axis + (slice(1, None),)
        differs = (mask[before] != mask[after]) & known[before] & known[after]
        edge[before] |= differs
        edge[after] |= differs
    return edge


def _close(points: np.ndarray, others: np.ndarray, reach: int) -> list[int]:
    """How many points there are, bool [H, W], and how many of them lie within `reach` of others, centre to centre."""
    count = int(points.sum())
    if not count or not others.any():
        return [count, 0]
    import cv2

    either = points | others
    rows, columns = np.flatnonzero(either.any(axis=1)), np.flatnonzero(either.any(axis=0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    away = cv2.distanceTransform((~others[box]).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return [count, int((away[points[box]] <= reach).sum())]


def _size(mask: np.ndarray) -> str:
    return f"{mask.shape[1]} x {mask.shape[0]}"
