"""Precision over recall as COCO has it, under R weightings of the images at once.

The weight of an image multiplies its detections and its objects. Only the right detections are steps of the curve, so
that the cost of a resample goes with their number and that of the overlaps asked for, not with that of all detections.

Source: pycocotools 2.0.11, cocoeval.py, `accumulate`: at 101 recalls the highest precision at that recall or more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.answers._coco import AREAS, IOUS, Judged

RECALLS = np.linspace(0, 1, 101)
PORTION = 200_000
"""Weights of detections looked at together: 1.6 MB, so that they stay in the cache."""
FULL = 1 - 1e-12
"""A recall of 1: weights that are no whole numbers do not add up to it."""


def average_precision(judged: Judged, weights: np.ndarray, area: str, ious: Sequence[int]) -> np.ndarray:
    """The average precision of each class.

    Args:
        judged: the detections.
        weights: float64 [R, N], >= 0.
        area: of the objects, one of `AREAS`.
        ious: places in `IOUS`, T of them.

    Returns:
        float64 [R, K, T]; nan where the objects of a class have no weight.
    """
    place, rows = list(AREAS).index(area), np.ascontiguousarray(weights.T)  # [N, R]: reordering images copies rows
    classes = len(judged.classes) - 1
    areas = np.full((len(weights), classes, len(ious)), np.nan)
    for k in range(classes):
        objects, span = _objects(judged, place, k), _span(judged, k)
        if not len(objects):
            continue
        step = max(16, PORTION // max(1, span.stop - span.start))
        for start in range(0, len(weights), step):
            some = rows[:, start : start + step]
            total = some[objects].sum(axis=0)
            curves = _curves(judged, some, total, (place, span), ious)
            for column, (precision, recalls) in enumerate(curves):
                areas[start : start + step, k, column] = np.einsum("nr,nr->r", precision, recalls)
            areas[start : start + step, k][total == 0] = np.nan
    return areas / len(RECALLS)


def precision_at_recalls(judged: Judged, k: int) -> np.ndarray:
    """The precision of a class at an IoU of 0.5 and each of `RECALLS`, every image once: float64 [101]."""
    images = 1 + int(max(judged.images.max(initial=0), judged.object_images.max(initial=0)))
    total = np.array([float(len(_objects(judged, 0, k)))])
    ((precision, recalls),) = _curves(judged, np.ones((images, 1)), total, (0, _span(judged, k)), [0])
    curve = np.zeros(len(RECALLS))
    reached = np.repeat(precision[:, 0], recalls[:, 0].astype(np.int64))
    curve[: len(reached)] = reached
    return curve


def average_recall(judged: Judged, weights: np.ndarray, area: str, most: int) -> np.ndarray:
    """The share of each class's objects that is found, averaged over `IOUS`.

    Args:
        judged: the detections.
        weights: float64 [R, N], >= 0.
        area: of the objects, one of `AREAS`.
        most: detections that count of each class in an image, at most `_coco.MOST`.

    Returns:
        float64 [R, K]; nan where the objects of a class have no weight.
    """
    place, images = list(AREAS).index(area), weights.shape[1]
    classes = len(judged.classes) - 1
    recalls = np.full((len(weights), classes), np.nan)
    for k in range(classes):
        span = _span(judged, k)
        times = np.where(judged.ranks[span] < most, judged.right[place, :, span].sum(axis=0), 0)
        # Of each image, so that the memory does not grow with the number of detections.
        hits = np.bincount(judged.images[span], weights=times, minlength=images)
        there = np.bincount(_objects(judged, place, k), minlength=images).astype(np.float64)
        found, total = np.einsum("rn,n->r", weights, hits), np.einsum("rn,n->r", weights, there)
        np.divide(found, len(IOUS) * total, out=recalls[:, k], where=total > 0)
    return recalls


def _objects(judged: Judged, place: int, k: int) -> np.ndarray:
    """The images of the objects of a class that have to be found: int64, an image as often as it holds one."""
    span = slice(int(judged.object_classes[k]), int(judged.object_classes[k + 1]))
    images: np.ndarray = judged.object_images[span][judged.counted[place, span]]
    return images


def _span(judged: Judged, k: int) -> slice:
    return slice(int(judged.classes[k]), int(judged.classes[k + 1]))


def _curves(
    judged: Judged, rows: np.ndarray, total: np.ndarray, where: tuple[int, slice], ious: Sequence[int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each overlap, the steps of the curve: precision, and how many of `RECALLS` have it, float64 [n, R] each.

    Args:
        judged: the detections.
        rows: weights of the images, float64 [N, R].
        total: weight of the objects, float64 [R].
        where: the range of area, and the detections of a class.
        ious: places in `IOUS`.
    """
    place, span = where
    weights = rows[judged.images[span]]
    curves, before, seen = [], None, np.zeros(0)
    for iou in ious:
        ignored = judged.ignored[place, iou, span]
        if before is None or (ignored != before).any():
            seen = np.cumsum(np.where(ignored[:, None], 0, weights) if ignored.any() else weights, axis=0)
            before = ignored
        right = np.flatnonzero(judged.right[place, iou, span])
        curves.append(_curve(np.cumsum(weights[right], axis=0), seen[right], total))
    return curves


def _curve(found: np.ndarray, seen: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From the weight of the right detections so far, and of all, float64 [n, R] each: see `_curves`."""
    precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
    highest = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = np.divide(found, total, out=np.zeros_like(found), where=total > 0)
    # How many of RECALLS are not above it: those below the nearest, and that one if it is not above.
    nearest = np.rint(recall * 100)
    reached = nearest + (np.minimum(nearest * 0.01, FULL) <= recall)
    reached[1:] -= reached[:-1].copy()
    return highest, reached
