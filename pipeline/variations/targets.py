"""What is known of places in pictures, moved with their pixels for many pictures at once: boxes and points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.boxes import VISIBLE, area, clip
from pipeline.variations.plan import Plan
from pipeline.variations.step import Drawn

PADDING = -1.0
"""Class of rows that hold no object: see `packed.PADDING`."""
CORNERS = np.array([[0, 1], [2, 1], [2, 3], [0, 3]])
"""Of a box x1, y1, x2, y2."""


def moved_objects(plan: Plan, drawn: Sequence[Drawn], objects: np.ndarray) -> np.ndarray:
    """Objects of B pictures where their pixels go.

    A box that a step moves partly out of the picture is cut at the edge, and one of which too little is left is
    dropped, as Albumentations does after each.

    Args:
        plan: whose steps.
        drawn: what each does.
        objects: float32 [B, M, 6]; rows of class -1 hold none.

    Returns:
        The same shape; the rows that hold none are the last of each picture.
    """
    boxes = clip(objects[:, :, :4].astype(np.float64), plan.given, plan.given)
    there = (objects[:, :, 4] >= 0) & (area(boxes) > 0)
    for step, (happens, values) in zip(plan.steps, drawn, strict=True):
        if not step.moves:
            continue
        corners = step.placed(boxes[:, :, CORNERS].reshape(len(boxes), -1, 2), values)
        corners = corners.reshape(*boxes.shape[:2], 4, 2)
        around = np.concatenate([corners.min(axis=2), corners.max(axis=2)], axis=2)
        cut = clip(around, step.side, step.side)
        seen = area(cut) >= VISIBLE * area(around)
        boxes = np.where(happens[:, None, None], cut, boxes)
        there &= ~happens[:, None] | (seen & (area(cut) > 0))
    table = np.full_like(objects, PADDING)
    places = np.cumsum(there, axis=1) - 1
    rows, columns = np.nonzero(there)
    table[rows, places[there], :4] = boxes[rows, columns]
    table[rows, places[there], 4:] = objects[rows, columns, 4:]
    return table


def moved_points(plan: Plan, drawn: Sequence[Drawn], points: np.ndarray) -> np.ndarray:
    """Points of B pictures where their pixels go, out of the picture too; in a mirror each becomes its partner.

    Args:
        plan: whose steps.
        drawn: what each does.
        points: float32 [B, J, 4]: x, y, whether it is known (else x and y are 0), and its partner.

    Returns:
        The same shape.
    """
    places, mirrored = points[:, :, :2].astype(np.float64), np.zeros(len(points), bool)
    for step, (happens, values) in zip(plan.steps, drawn, strict=True):
        if step.moves:
            places = np.where(happens[:, None, None], step.placed(places, values), places)
            mirrored ^= happens & step.mirrors
    table = points.copy()
    table[:, :, :2] = places * points[:, :, 2:3]
    partners = points[:, :, 3].astype(np.int64)
    swapped = np.take_along_axis(table, partners[:, :, None], axis=1)
    swapped[:, :, 3] = points[:, :, 3]
    return np.where(mirrored[:, None, None], swapped, table)
