"""One class per image: probabilities beside the true class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from pipeline.answering import Answers, Confusion, Curve, Marks, Table

SMALLEST = np.finfo(np.float64).tiny
BINS = 15


class Bin(NamedTuple):
    """The images whose confidence lies in (low, high]."""

    low: float
    high: float
    images: int
    confidence: float
    """Mean over them."""
    accuracy: float
    """Share of them answered rightly."""


class LabelAnswers(Answers):
    """Probabilities and truth of N images."""

    def __init__(self, classes: Sequence[str], labels: np.ndarray, probabilities: np.ndarray) -> None:
        """The true class ids int64 [N], and float64 [N, K], rows of which sum to 1."""
        self.classes = classes
        self.labels = labels
        self.probabilities = probabilities

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def predicted(self) -> np.ndarray:
        """The most probable class, int64 [N]; of equal ones the first."""
        best: np.ndarray = self.probabilities.argmax(axis=1)
        return best

    @cached_property
    def right(self) -> np.ndarray:
        """Whether it is the true one, bool [N]."""
        right: np.ndarray = self.predicted == self.labels
        return right

    @cached_property
    def quality(self) -> np.ndarray:
        """1 where the most probable class is the true one, else 0."""
        return self.right.astype(np.float64)

    @cached_property
    def by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """Each image holds its true class alone."""
        present = self.labels[:, None] == np.arange(len(self.classes))
        return present, present * self.quality[:, None]

    @cached_property
    def confidence(self) -> np.ndarray:
        """The probability of the most probable class."""
        confidence: np.ndarray = self.probabilities.max(axis=1)
        return confidence

    @cached_property
    def losses(self) -> np.ndarray:
        """Minus the logarithm of the true class's probability, in nats."""
        true = self.probabilities[np.arange(len(self.labels)), self.labels]
        losses: np.ndarray = -np.log(np.maximum(true, SMALLEST))
        return losses

    def said(self, position: int) -> Marks:
        """The most probable class."""
        return Marks(words=self.classes[self.predicted[position]], classes=self.classes)

    def true(self, position: int) -> Marks:
        """The true class."""
        return Marks(words=self.classes[self.labels[position]], classes=self.classes)

    def columns(self) -> dict[str, Any]:
        """`probabilities`: a list of K a row."""
        import pyarrow as pa

        flat = pa.array(self.probabilities.ravel())
        starts = np.arange(len(self) + 1, dtype=np.int32) * len(self.classes)
        return {"probabilities": pa.ListArray.from_arrays(pa.array(starts), flat)}

    def again(self, table: Any) -> Self:
        """See `Answers.again`."""
        rows = table.column("probabilities").to_pylist() if "probabilities" in table.column_names else None
        if rows is None or len(rows) != len(self) or any(len(row) != len(self.classes) for row in rows):
            raise ValueError(f"expected probabilities of {len(self.classes)} classes for {len(self)} images")
        told = np.array(rows, np.float64).reshape(len(self), len(self.classes))
        return type(self)(self.classes, self.labels, told)

    def at(self, positions: Sequence[int] | np.ndarray) -> Self:
        """See `Answers.at`."""
        chosen = np.asarray(positions, np.int64)
        return type(self)(self.classes, self.labels[chosen], self.probabilities[chosen])

    def difference(self, other: LabelAnswers) -> np.ndarray:
        """The largest difference of a probability."""
        apart: np.ndarray = np.abs(self.probabilities - other.probabilities).max(axis=1, initial=0.0)
        return apart

    def confusion(self) -> Confusion:
        """Images of each true class by the most probable one."""
        classes = len(self.classes)
        counts = np.bincount(self.labels * classes + self.predicted, minlength=classes**2)
        return Confusion(self.classes, counts.reshape(classes, classes), "images")

    def class_table(self) -> Table:
        """Precision, recall and F1 of each class; a share of nothing is 0."""
        matrix = self.confusion().counts
        right, actual, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
        rows = [
            (name, int(a), _share(r, p), _share(r, a), _share(2 * r, a + p))
            for name, r, a, p in zip(self.classes, right, actual, predicted, strict=True)
        ]
        return Table(("class", "images", "precision", "recall", "f1"), rows)

    def curves(self) -> list[Curve]:
        """Confidence against truth, and the mean ROC curve."""
        return [curve for curve in (_reliability(self), _roc(self)) if curve]


def calibration(answers: LabelAnswers) -> list[Bin]:
    """Confidence against accuracy in 15 equal bins; a bin without images is left out."""
    place = np.clip(np.ceil(answers.confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    bins = []
    for index in np.unique(place).tolist():
        inside = place == index
        confidence, accuracy = answers.confidence[inside].mean(), answers.right[inside].mean()
        bins.append(Bin(index / BINS, (index + 1) / BINS, int(inside.sum()), float(confidence), float(accuracy)))
    return bins


def roc(answers: LabelAnswers) -> list[tuple[float, float]]:
    """The one-vs-rest ROC curve, averaged over the classes that have images and are not all there is.

    Source: Fawcett. An Introduction to ROC Analysis, 2006, algorithm 3 (vertical averaging).

    Returns:
        (false positive rate, true positive rate), the former on a grid that is finer near 0.
    """
    grid = np.linspace(0, 1, 101) ** 2
    curves = []
    for index in range(len(answers.classes)):
        positive = answers.labels == index
        if positive.any() and not positive.all():
            curves.append(np.interp(grid, *_roc_points(answers.probabilities[:, index], positive)))
    if not curves:
        return []
    mean = np.mean(curves, axis=0)
    mean[0] = 0  # every curve starts at the origin, however steep
    return [(float(x), float(y)) for x, y in zip(grid, mean, strict=True)]


def _reliability(answers: LabelAnswers) -> Curve:
    bins = calibration(answers)
    summary = "Share of right answers by confidence: " + "; ".join(
        f"{b.images} images, confidence {b.confidence:.1%} on average, {b.accuracy:.1%} of them right" for b in bins
    )
    return Curve(
        title="Confidence and truth",
        x_label="Confidence",
        y_label="Share right (wider: more images)",
        series=[("Share right", [((b.low + b.high) / 2, b.accuracy) for b in bins])],
        summary=f"{summary}.",
        ideal=((0, 0), (1, 1)),
        ideal_name="Perfectly calibrated",
        sizes=[b.images for b in bins],
    )


def _roc(answers: LabelAnswers) -> Curve | None:
    points = roc(answers)
    if not points:
        return None
    at_one = max(found for alarms, found in points if alarms <= 0.01)
    return Curve(
        title="One class against the rest",
        x_label="False alarms",
        y_label="Found",
        series=[("Mean over the classes", points)],
        summary=f"ROC curve: at 1% of false alarms, {at_one:.1%} of the images of a class are found, on average.",
        ideal=((0, 0), (1, 1)),
        ideal_name="Chance",
    )


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0


def _roc_points(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of one class's curve, from (0, 0) to (1, 1); images that score alike make one step."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    found = np.cumsum(positive[order])[last]
    mistaken = last + 1 - found
    return np.append(0, mistaken / (~positive).sum()), np.append(0, found / positive.sum())
