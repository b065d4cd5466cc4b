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


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair: boxes [n, 4] and [m, 4] to float64 [n, m]; 0 where both have no area."""
    common = intersection(first, second)
    union = area(first)[:, None] + area(second)[None, :] - common
    shares: np.ndarray = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return shares
