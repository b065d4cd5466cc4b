"""What tasks with objects share: counts, names, words, what two tiles have found, and a model that never looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pipeline.annotations import Objects
from pipeline.boxes import area
from pipeline.errors import UserError
from pipeline.tasks._names import natural_order

BLIND = 100
"""Objects that a model which never looks puts into each picture."""
SHOWN = 0.5
"""Objects of which the model is less sure are not drawn, while no threshold is known."""


def counted(annotation: Objects) -> dict[str, int]:
    """Objects of each class; crowds are none."""
    return dict(Counter(thing.name for thing in annotation.things if not thing.crowd))


def class_names(found: Iterable[str], task: str) -> list[str]:
    """The distinct class names in natural order.

    Args:
        found: names of classes that some object is of.
        task: as a sentence begins with it.

    Raises:
        UserError: there is no object at all.
    """
    ordered = natural_order(found)
    if not ordered:
        raise UserError(f"{task} needs objects; the source names none in any usable picture.")
    return ordered


def in_words(names: Sequence[str]) -> str:
    """`12 RBC, 1 WBC`, the most frequent first; `nothing`."""
    counted = sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count} {name}" for name, count in counted) or "nothing"


def surest(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which of so many objects are left of those that are one: bool [count].

    Args:
        count: of objects, by falling score.
        first: of each pair that is one object the surer, rising: int64 [p].
        second: the other.
    """
    left = np.ones(count, bool)
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        if left[one]:
            left[other] = False
    return left


def blind_boxes(train: Any, split: Any) -> list[np.ndarray]:
    """Boxes of the training pictures, evenly chosen, in every picture; each as sure as its class is frequent.

    Args:
        train: `dataset.Split`, or what is known of it.
        split: likewise, of N images.

    Returns:
        x1, y1, x2, y2, score, class id by falling score: N arrays float64 [d, 6].
    """
    known = [(train.objects(position), train.sizes[position]) for position in range(len(train))]
    known = [(rows[rows[:, 5] == 0], size) for rows, size in known]  # a crowd is no object
    shares = np.concatenate([rows[:, :4] / np.tile(size, 2) for rows, size in known if len(rows)] or [np.zeros((0, 4))])
    labels = np.concatenate([rows[:, 4] for rows, _ in known if len(rows)] or [np.zeros(0)]).astype(np.int64)
    order = np.lexsort((shares[:, 0], shares[:, 1], area(shares), labels))
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(BLIND, len(order))).astype(np.int64))]
    scores = np.bincount(labels, minlength=len(train.classes))[labels[chosen]] / max(1, len(labels))
    rows = np.column_stack([shares[chosen], scores, labels[chosen]])
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    return [rows * np.array([*size, *size, 1, 1]) for size in split.sizes]
