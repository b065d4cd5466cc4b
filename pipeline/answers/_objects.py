"""Where to cut boxes off, what is taken for what, how far two answers lie apart, and the curve of the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.answering import Curve
from pipeline.answers._coco import Judged
from pipeline.answers._curves import RECALLS, precision_at_recalls
from pipeline.answers._pairs import Measure, one_to_one, overlapping
from pipeline.answers._ragged import Ragged

SAME = 0.5
"""IoU from which two boxes can be one object."""
SERIES = 6
"""Classes that a chart can show."""


def best_threshold(scores: np.ndarray, right: np.ndarray, ignored: np.ndarray, objects: int) -> float:
    """The score at which F1 is highest if all boxes below it are left out; of equal ones the highest score.

    Args:
        scores: float64 [d].
        right: bool [d].
        ignored: neither right nor wrong, bool [d].
        objects: that there are.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[~np.isnan(scores[order])]
    if not len(order):
        return 1.0
    ranked = scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # boxes that score alike come and go together
    hits, counted = np.cumsum(right[order])[last], np.cumsum(~ignored[order])[last]
    f1 = 2 * hits / np.maximum(counted + objects, 1)
    return float(ranked[last[f1.argmax()]])


def confused(truth: Ragged, found: Ragged, said: np.ndarray, classes: int, overlap: Measure) -> np.ndarray:
    """True classes by said ones, the background last of both: int64 [K + 1, K + 1].

    Args:
        truth: rows x1, y1, x2, y2, class id, crowd.
        found: rows x1, y1, x2, y2, score, class id.
        said: which of the latter are counted, bool [D].
        classes: K.
        overlap: IoU of what was found with the truth.
    """
    things, boxes = np.flatnonzero(truth.rows[:, 5] == 0), np.flatnonzero(said)
    actual, told = truth.rows[things, 4].astype(np.int64), found.rows[boxes, 5].astype(np.int64)
    left, right, value = overlapping(
        found.images[boxes], truth.images[things], lambda one, other: overlap(boxes[one], things[other]), SAME
    )
    order = np.lexsort((right, left, -found.rows[boxes[left], 4], told[left] != actual[right], -value))
    taken = order[one_to_one(left[order], right[order])]
    rows, columns = np.full(len(boxes), classes), np.full(len(things), classes)
    rows[left[taken]], columns[right[taken]] = actual[right[taken]], told[left[taken]]
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    np.add.at(counts, (rows, told), 1)
    np.add.at(counts, (actual[columns == classes], classes), 1)
    return counts


def apart(first: Ragged, second: Ragged, classes: int, measure: Measure) -> np.ndarray:
    """See `ObjectAnswers.difference`.

    Args:
        first: rows x1, y1, x2, y2, score, class id.
        second: likewise.
        classes: K.
        measure: IoU of the first with the second, 1 where they are equal.
    """
    a, b = first.rows, second.rows
    groups = [boxes.images * classes + boxes.rows[:, 5].astype(np.int64) for boxes in (first, second)]
    left, right, value = overlapping(groups[0], groups[1], measure, SAME)
    one, other = a[left, 4], b[right, 4]
    scores = np.abs(np.subtract(one, other, out=np.zeros(len(one)), where=one != other))  # inf is equal to inf
    gaps = np.maximum(np.where(np.isnan(scores), 1, scores), 1 - value)
    order = np.lexsort((right, left, -value))
    taken = order[one_to_one(left[order], right[order])]
    # A box that only one of them has counts its score: one that nobody would look at may come and go.
    mine, theirs = np.minimum(a[:, 4], 1.0), np.minimum(b[:, 4], 1.0)
    mine[left[taken]] = theirs[right[taken]] = gaps[taken]
    furthest = np.zeros(len(first))
    for boxes, gap in ((first, mine), (second, theirs)):
        np.maximum.at(furthest, boxes.images, gap)
    for boxes in (first, second):
        furthest[boxes.images[np.isnan(boxes.rows).any(axis=1)]] = np.nan
    return furthest


def precision_recall(judged: Judged, classes: Sequence[str], objects: np.ndarray) -> list[Curve]:
    """Precision over recall at an IoU of 0.5: the mean of the classes with objects, and those with the most of them."""
    known = np.flatnonzero(objects)
    if not len(known):
        return []
    of_class = {int(k): precision_at_recalls(judged, int(k)) for k in known}
    largest = known[np.argsort(-objects[known], kind="stable")][:SERIES].tolist()
    lines = [(classes[k], of_class[k]) for k in largest]
    if len(known) > 1:
        lines.insert(0, ("Mean over the classes", np.mean(list(of_class.values()), axis=0)))
    half = "; ".join(f"{name} {values[50]:.1%}" for name, values in lines)
    return [
        Curve(
            title="Precision over recall",
            x_label="Recall",
            y_label="Precision at IoU 0.5",
            series=[(name, list(zip(RECALLS.tolist(), values.tolist(), strict=True))) for name, values in lines],
            summary=f"Precision over recall at an IoU of 0.5. Where half of the objects are found: {half}.",
        )
    ]
