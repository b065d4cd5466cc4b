"""One of ordered classes per image: a mistake is as bad as it is far from the truth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from pipeline.answering import Marks, Table
from pipeline.answers.labels import LabelAnswers

HALF = 0.5 - 1e-12
"""Sums of probabilities are rounded."""


class GradeAnswers(LabelAnswers):
    """Probabilities and truth of N images whose classes have an order, from the lowest to the highest."""

    @cached_property
    def predicted(self) -> np.ndarray:
        """The median of the probabilities, int64 [N]: no other class lies nearer to the truth on average."""
        return medians(self.probabilities)

    @cached_property
    def apart(self) -> np.ndarray:
        """How many classes the answer lies from the truth, int64 [N]."""
        apart: np.ndarray = np.abs(self.predicted - self.labels)
        return apart

    @cached_property
    def quality(self) -> np.ndarray:
        """1 where the answer is the true class, 0 where it lies at the other end, and even steps between."""
        quality: np.ndarray = 1 - self.apart / max(1, len(self.classes) - 1)
        return quality

    @cached_property
    def confidence(self) -> np.ndarray:
        """The probability of the class that is said."""
        confidence: np.ndarray = self.probabilities[np.arange(len(self)), self.predicted]
        return confidence

    def said(self, position: int) -> Marks:
        """The median, and the probability of every class, lowest first, as bars."""
        return marks(self.probabilities[position], int(self.predicted[position]), self.classes)

    def class_table(self) -> Table:
        """As of classes without order, and how far from each class the answers lie on average."""
        table = super().class_table()
        sums = np.bincount(self.labels, weights=self.apart, minlength=len(self.classes))
        errors = [
            float(total / row[1]) if row[1] else float("nan") for total, row in zip(sums, table.rows, strict=True)
        ]
        rows = [(*row[:-1], error, row[-1]) for row, error in zip(table.rows, errors, strict=True)]
        return Table((*table.header[:-1], "error", table.header[-1]), rows)


def medians(probabilities: np.ndarray) -> np.ndarray:
    """The lowest class up to which at least half of the probability lies: float64 [N, K] to int64 [N]."""
    if not probabilities.size:
        return np.zeros(len(probabilities), np.int64)
    middle: np.ndarray = (np.cumsum(probabilities, axis=1) >= HALF).argmax(axis=1)
    return middle


def marks(probabilities: np.ndarray, said: int, classes: Sequence[str], sure: bool = False) -> Marks:
    """What is said of one image.

    Args:
        probabilities: float64 [K].
        said: class id.
        classes: K names, in their order.
        sure: whether the words name the probability.
    """
    words = f"{classes[said]} {probabilities[said]:.1%}" if sure else classes[said]
    bars = [(name, float(share)) for name, share in zip(classes, probabilities, strict=True)]
    return Marks(words=words, classes=classes, bars=bars)
