"""Where boxes lie: the one convention, written once, and the arithmetic on it.

A picture of W x H pixels covers the rectangle from (0, 0), its upper left corner, to (W, H). The pixel in column i and
row j covers [i, i + 1) x [j, j + 1). A box is x1, y1, x2, y2 in this plane: its width is x2 - x1, and the box of the
one pixel (i, j) is i, j, i + 1, j + 1. Coordinates are real numbers in double precision, and are rounded nowhere: not
when they are read, moved, scaled, scored or stored. Networks see float32.

Formats convert as they read: COCO's x, y, width, height is x, y, x + width, y + height; YOLO's centre and size are
shares of the picture; the corners of Pascal VOC are taken as they stand (see `formats/voc.py` for those that count the
last pixel in).
"""

from __future__ import annotations

import numpy as np

SLACK = 0.01
"""Pixels by which a box may reach beyond its picture and still lie in it: YOLO's files write shares in six decimals."""
VISIBLE = 0.25
"""Of a box that an augmentation moves partly out of the picture: with less of its area left it is dropped, with more
it is cut at the edge."""
PORTION = 1_000_000
"""Pairs looked at together: some hundred MB."""


def area(boxes: np.ndarray) -> np.ndarray:
    """Of boxes [..., 4]; 0 where a box is inverted."""
    areas: np.ndarray = np.maximum(boxes[..., 2] - boxes[..., 0], 0) * np.maximum(boxes[..., 3] - boxes[..., 1], 0)
    return areas


def clip(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    """Boxes [..., 4] cut to a picture."""
    cut: np.ndarray = np.clip(boxes, 0, np.array([width, height, width, height], np.float64))
    return cut


def intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Common areas of every pair: boxes [n, 4] and [m, 4] to [n, m]."""
    upper = np.maximum(first[:, None, :2], second[None, :, :2])
    lower = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common: np.ndarray = np.prod(np.maximum(lower - upper, 0), axis=2)
    return common


def common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Common areas, box by box: boxes [n, 4] twice to float64 [n]."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    areas: np.ndarray = np.maximum(sides, 0).prod(axis=1)
    return areas


def meeting(boxes: np.ndarray, kinds: np.ndarray, apart: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of boxes of one kind that have an area in common, without a matrix of all with all.

    Args:
        boxes: float64 [n, 4].
        kinds: of each, int64 [n].
        apart: boxes that have the same number here are no pair: int64 [n].

    Returns:
        Place of the first and place of the second, which is the higher one, by both rising: int64 [p] each.
    """
    order = np.lexsort((boxes[:, 0], kinds))
    left, right, own = boxes[order, 0], boxes[order, 2], np.arange(len(order))
    # Of a kind, a box can meet those after it that begin before it ends.
    ends = np.zeros(len(order), np.int64)
    for kind in np.unique(kinds):
        begin, end = np.searchsorted(kinds[order], [kind, kind + 1])
        ends[begin:end] = begin + np.searchsorted(left[begin:end], right[begin:end])
    counts = np.maximum(ends - own - 1, 0)
    totals, start, found = np.cumsum(counts), 0, [np.zeros((2, 0), np.int64)]
    while start < len(order):
        before = int(totals[start] - counts[start])
        stop = max(start + 1, int(np.searchsorted(totals, before + PORTION, side="right")))
        some = counts[start:stop]
        one = np.repeat(own[start:stop], some)
        other = np.arange(len(one)) - np.repeat(totals[start:stop] - some - before, some) + one + 1
        pairs = np.sort(order[np.stack([one, other])], axis=0)
        first, second = pairs
        found.append(pairs[:, (apart[first] != apart[second]) & (common(boxes[first], boxes[second]) > 0)])
        start = stop
    first, second = np.concatenate(found, axis=1)
    rising = np.lexsort((second, first))
    return first[rising], second[rising]


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair: boxes [n, 4] and [m, 4] to float64 [n, m]; 0 where both have no area."""
    common = intersection(first, second)
    union = area(first)[:, None] + area(second)[None, :] - common
    shares: np.ndarray = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares
