"""How much of each class some images hold: what `ingest` tells of the splits, for any other choice of images.

It is counted as tasks count annotations, in the unit of the dataset: images, objects or pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline import masks
from pipeline.contracts import Target
from pipeline.dataset import Split


def counts_of(split: Split) -> dict[str, int]:
    """By the name of each class, as `DatasetInfo.counts` has it of the splits."""
    counts = COUNTED[Target[split.dataset.info.learns]](split)
    return dict(zip(split.classes, counts.tolist(), strict=True))


def _labels(split: Split) -> np.ndarray:
    return np.bincount(split.labels, minlength=len(split.classes))


def _label_sets(split: Split) -> np.ndarray:
    counts: np.ndarray = split.label_sets.sum(axis=0)
    return counts


def _numbers(split: Split) -> np.ndarray:
    """Images of which each is known."""
    counts: np.ndarray = (~np.isnan(split.numbers)).sum(axis=0)
    return counts


def _counts(split: Split) -> np.ndarray:
    """Objects, where it is known how many."""
    counts: np.ndarray = np.nan_to_num(split.numbers).round().sum(axis=0).astype(np.int64)
    return counts


def _points(split: Split) -> np.ndarray:
    """Images in which each has a place."""
    counts: np.ndarray = np.isfinite(split.points).all(axis=2).sum(axis=0)
    return counts


def _objects(split: Split) -> np.ndarray:
    """Objects; crowds are none."""
    counts = np.zeros(len(split.classes), np.int64)
    for position in range(len(split)):
        found = split.objects(position)
        counts += np.bincount(found[found[:, 5] == 0, 4].astype(np.int64), minlength=len(counts))
    return counts


def _masks(split: Split) -> np.ndarray:
    """Pixels; those without a class are none."""
    counts = np.zeros(len(split.classes), np.int64)
    for position in range(len(split)):
        pixels = masks.decode(split.mask(position)).ravel()
        counts += np.bincount(pixels, minlength=masks.VOID + 1)[: len(counts)]
    return counts


COUNTED: dict[Target, Callable[[Split], np.ndarray]] = {
    Target.LABEL: _labels,
    Target.GRADE: _labels,
    Target.IDENTITY: _labels,
    Target.LABELS: _label_sets,
    Target.NUMBERS: _numbers,
    Target.COUNTS: _counts,
    Target.POINTS: _points,
    Target.OBJECTS: _objects,
    Target.INSTANCES: _objects,
    Target.MASK: _masks,
}
"""Of each class of what is learnt from: int64 [K]."""
