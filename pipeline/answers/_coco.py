"""Which detections are right, as COCO judges them: at ten overlaps and for objects of four ranges of area at once.

Within an image and a class the detections choose, the surest first. Each takes the object that it overlaps most of
those that count and are free, if that is enough; else one of those that do not count: crowds, which are never taken
away, and objects of another area. What took such a one, or took none and is of another area itself, is neither right
nor wrong. How much of a crowd a box covers does not matter, only how much of the box lies in it.

The area of an object is that of its box, or, where pixels are judged, their number. pycocotools takes what stands under
`area` in the JSON file, which in COCO's own files is that of the outline even where boxes are judged: there the ranges
differ.

Source: pycocotools 2.0.11, cocoeval.py, `evaluateImg`; Lin et al. Microsoft COCO: Common Objects in Context, 2014.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.answers._pairs import Measure, overlapping
from pipeline.answers._ragged import Ragged

IOUS = np.linspace(0.5, 0.95, 10)
"""T overlaps that are asked for."""
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""A ranges of area in square pixels, both ends included."""
MOST = 100
"""Detections that count of each class in an image, the surest."""
CLOSE = 1 - 1e-10
"""No overlap has to be higher: rounding."""

_T = len(IOUS)
_EACH_AREA = sum(1 << _T * place for place in range(len(AREAS)))
_ALL = (1 << _T * len(AREAS)) - 1
"""One bit for each range of area and each overlap, the overlaps together."""
_UP_TO = np.array([((1 << count) - 1) * _EACH_AREA for count in range(_T + 1)], np.int64)
"""The bits of so many overlaps, the lowest."""


class Judged(NamedTuple):
    """The d detections that count and the g objects, class by class."""

    rows: np.ndarray
    """Which detections these are, int64 [d]: of each class by falling score, of equal scores as the images come."""
    images: np.ndarray
    """Of the detections, int64 [d]."""
    ranks: np.ndarray
    """How many detections of its image and class come before each, int64 [d]."""
    classes: np.ndarray
    """Where the detections of each class begin, int64 [K + 1]."""
    right: np.ndarray
    """bool [A, T, d]."""
    ignored: np.ndarray
    """Neither right nor wrong: bool [A, T, d]."""
    object_images: np.ndarray
    """Of the objects, int64 [g]."""
    object_classes: np.ndarray
    """Where the objects of each class begin, int64 [K + 1]."""
    counted: np.ndarray
    """Whether an object has to be found, bool [A, g]."""


def judge(truth: Ragged, found: Ragged, classes: int, areas: tuple[np.ndarray, np.ndarray], overlap: Measure) -> Judged:
    """Judge every detection.

    Args:
        truth: rows x1, y1, x2, y2, class id, crowd.
        found: rows x1, y1, x2, y2, score, class id, those of an image by falling score.
        classes: K.
        areas: of the truth, float64 [g], and of what was found.
        overlap: of what was found with the truth, of a crowd the share of what was found.
    """
    labels, names = found.rows[:, 5].astype(np.int64), truth.rows[:, 4].astype(np.int64)
    order = np.lexsort((-found.rows[:, 4], labels))
    ranks = _ranks((found.images * classes + labels)[order])
    order, ranks = order[ranks < MOST], ranks[ranks < MOST]
    things = np.argsort(names, kind="stable")
    groups = (found.images * classes + labels)[order]
    crowd, objects = truth.rows[things, 5] != 0, (truth.images * classes + names)[things]
    counted = ~_outside(areas[0][things]) & ~crowd

    def measure(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return overlap(order[left], things[right])

    right, ignored = _choose((groups, objects), crowd, counted, measure)
    return Judged(
        rows=order,
        images=found.images[order],
        ranks=ranks,
        classes=np.searchsorted(labels[order], np.arange(classes + 1)),
        right=_unpacked(right),
        ignored=_unpacked(ignored | (~(right | ignored) & _packed(_outside(areas[1][order])))),
        object_images=truth.images[things],
        object_classes=np.searchsorted(names[things], np.arange(classes + 1)),
        counted=counted,
    )


def _choose(
    groups: tuple[np.ndarray, np.ndarray], crowd: np.ndarray, counted: np.ndarray, measure: Measure
) -> tuple[np.ndarray, np.ndarray]:
    """Let the detections choose: the bits where each took an object that counts, and one that does not, int64 [d] each.

    Args:
        groups: image and class in one number, of the detections in the order in which those of a group choose, int64
            [d], and of the objects, int64 [g].
        crowd: bool [g].
        counted: bool [A, g].
        measure: how much a detection overlaps an object.
    """
    asked = np.minimum(IOUS, CLOSE)
    one, other, value = overlapping(*groups, measure, asked[0])
    enough = _UP_TO[np.searchsorted(asked, value, side="right")]
    counts = _packed(counted)[other]
    # A pair is offered twice: where its object counts, and after all those where it does not.
    later = np.repeat([0, 1], len(one))
    one, other, value = np.tile(one, 2), np.tile(other, 2), np.tile(value, 2)
    bits = np.concatenate([enough & counts, enough & ~counts])
    order = np.lexsort((-other, -value, later, one))  # of equal overlaps the last object is taken
    order = order[bits[order] != 0]
    right, ignored, free = [0] * len(groups[0]), [0] * len(groups[0]), [_ALL] * len(crowd)
    mine, theirs = one[order].tolist(), other[order].tolist()
    shared = crowd[other[order]].tolist()
    for a, b, offer, late, many in zip(mine, theirs, bits[order].tolist(), later[order].tolist(), shared, strict=True):
        took = offer & free[b] & ~(right[a] | ignored[a])
        if not many:
            free[b] ^= took
        if late:
            ignored[a] |= took
        else:
            right[a] |= took
    return np.array(right, np.int64), np.array(ignored, np.int64)


def _ranks(groups: np.ndarray) -> np.ndarray:
    """How many before each are of the same group."""
    order = np.argsort(groups, kind="stable")
    first = np.flatnonzero(np.diff(groups[order], prepend=-1))
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(first, np.diff(first, append=len(groups)))
    return ranks


def _outside(areas: np.ndarray) -> np.ndarray:
    """Whether areas [n] are of another range: bool [A, n]."""
    return np.stack([(areas < low) | (areas > high) for low, high in AREAS.values()])


def _packed(flags: np.ndarray) -> np.ndarray:
    """bool [A, n] as bits that hold for every overlap, int64 [n]."""
    parts = (1 << _T * np.arange(len(AREAS), dtype=np.int64)) * ((1 << _T) - 1)
    bits: np.ndarray = (flags * parts[:, None]).sum(axis=0)
    return bits


def _unpacked(bits: np.ndarray) -> np.ndarray:
    """Bits [n] as bool [A, T, n]."""
    flags = bits >> np.arange(_T * len(AREAS), dtype=np.int64)[:, None] & 1
    return flags.astype(bool).reshape(len(AREAS), _T, len(bits))
