"""Any number of classes per image: the probability of each beside the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np

from pipeline.answering import Answers, Confusion, Curve, Marks, Table
from pipeline.answers._curves_of_sets import precision_recall, reliability
from pipeline.answers._ranking import average_precision, best_threshold

SMALLEST = np.finfo(np.float64).tiny
UNSURE = 0.5
"""The threshold of a class for which none is chosen."""
FEW = 5
"""Images of a class, of which there must be as many for a threshold of its own."""
MOST_BARS = 10
SHOWN = 0.05
"""Classes of at least this probability, and those that are said, are shown as bars, up to `MOST_BARS`."""


class LabelSetAnswers(Answers):
    """Probabilities and truth of N images; a class is said of an image if its probability reaches its threshold."""

    def __init__(
        self, classes: Sequence[str], truth: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray
    ) -> None:
        """Take what was answered.

        Args:
            classes: K names.
            truth: whether each image is of each class, bool [N, K].
            probabilities: float64 [N, K], each by itself in 0..1.
            thresholds: float64 [K].
        """
        self.classes = classes
        self.truth = truth
        self.probabilities = probabilities
        self.thresholds = thresholds

    def __len__(self) -> int:
        return len(self.truth)

    @cached_property
    def chosen(self) -> np.ndarray:
        """Whether each class is said of each image, bool [N, K]."""
        chosen: np.ndarray = self.probabilities >= self.thresholds
        return chosen

    @cached_property
    def quality(self) -> np.ndarray:
        """Of the classes that are true or said, the share that are both (Jaccard); 1 where there are none."""
        both, either = (self.truth & self.chosen).sum(axis=1), (self.truth | self.chosen).sum(axis=1)
        quality: np.ndarray = np.where(either == 0, 1.0, both / np.maximum(either, 1))
        return quality

    @cached_property
    def by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """Each image holds its true classes; one is answered well if it is said."""
        return self.truth, self.chosen.astype(np.float64)

    @cached_property
    def confidence(self) -> np.ndarray:
        """The probability that what is said of a class is right, of the class where it is least."""
        sure = np.where(self.chosen, self.probabilities, 1 - self.probabilities)
        confidence: np.ndarray = sure.min(axis=1)
        return confidence

    @cached_property
    def losses(self) -> np.ndarray:
        """Minus the logarithm of the probability of what is true of a class, in nats, the mean over the classes."""
        right = np.where(self.truth, self.probabilities, 1 - self.probabilities)
        losses: np.ndarray = -np.log(np.maximum(right, SMALLEST)).mean(axis=1)
        return losses

    def best_thresholds(self) -> np.ndarray:
        """Of each class the threshold with the highest F1 on these images, float64 [K].

        Classes that fewer than `FEW` images are of have one together, that with the highest F1 over all of their
        labels: each by itself would take it from one or two images. Where no image is of any of them it is 0.5.
        """
        columns = zip(self.probabilities.T, self.truth.T, strict=True)
        cuts = np.array([best_threshold(told, true, UNSURE) for told, true in columns], np.float64)
        rare = self.truth.sum(axis=0) < FEW
        cuts[rare] = best_threshold(self.probabilities[:, rare].ravel(), self.truth[:, rare].ravel(), UNSURE)
        return cuts

    def said(self, position: int) -> Marks:
        """The classes that are said, and the most probable ones as bars."""
        return marks(self.probabilities[position], self.chosen[position], self.classes)

    def true(self, position: int) -> Marks:
        """The true classes."""
        return Marks(words=in_words(self.truth[position], self.classes), classes=self.classes)

    def columns(self) -> dict[str, Any]:
        """`probabilities`: a list of K a row; `thresholds`: likewise, the same in every row."""
        import pyarrow as pa

        starts = pa.array(np.arange(len(self) + 1, dtype=np.int32) * len(self.classes))
        flat = {"probabilities": self.probabilities, "thresholds": np.tile(self.thresholds, (len(self), 1))}
        return {name: pa.ListArray.from_arrays(starts, pa.array(values.ravel())) for name, values in flat.items()}

    def again(self, table: Any) -> Self:
        """See `Answers.again`."""
        known = {"probabilities", "thresholds"} <= set(table.column_names)
        found = [table.column(name).to_pylist() if known else [] for name in ("probabilities", "thresholds")]
        if any(len(rows) != len(self) or any(len(row) != len(self.classes) for row in rows) for rows in found):
            raise ValueError(
                f"expected probabilities and thresholds of {len(self.classes)} classes for {len(self)} images"
            )
        told, thresholds = (np.array(rows, np.float64).reshape(len(self), len(self.classes)) for rows in found)
        return type(self)(self.classes, self.truth, told, thresholds[0] if len(self) else self.thresholds)

    def at(self, positions: Sequence[int] | np.ndarray) -> Self:
        """See `Answers.at`."""
        chosen = np.asarray(positions, np.int64)
        return type(self)(self.classes, self.truth[chosen], self.probabilities[chosen], self.thresholds)

    def difference(self, other: LabelSetAnswers) -> np.ndarray:
        """The largest difference of a probability."""
        apart: np.ndarray = np.abs(self.probabilities - other.probabilities).max(axis=1, initial=0.0)
        return apart

    def confusion(self) -> Confusion:
        """Classes that are rightly said, and what stands in place of what.

        Of each image every class that is true and not said is counted with every one that is said and not true; where
        the other side has none, in the column or the row `nothing`. An image without classes of which none is said is
        counted there too.

        Source: Heydarian, Doyle, Samavi. MLCM: Multi-Label Confusion Matrix, 2022; but where all true classes are
        said, what is said beyond them is counted as `nothing` alone, and not with each of them.
        """
        missed, invented = self.truth & ~self.chosen, self.chosen & ~self.truth
        alone = ~missed.any(axis=1, keepdims=True), ~invented.any(axis=1, keepdims=True)
        rows = np.concatenate([missed, alone[0]], axis=1).astype(np.int64)
        columns = np.concatenate([invented, alone[1]], axis=1).astype(np.int64)
        counts = rows.T @ columns
        classes = len(self.classes)
        counts[classes, classes] = (~(self.truth | self.chosen).any(axis=1)).sum()
        counts[np.arange(classes), np.arange(classes)] = (self.truth & self.chosen).sum(axis=0)
        nothing = "nothing" if "nothing" not in self.classes else "(nothing)"
        return Confusion([*self.classes, nothing], counts, "labels")

    def class_table(self) -> Table:
        """How each class fares at its threshold, and at all of them; a share of nothing is 0."""
        once = np.ones((len(self), 1))
        rows = []
        for k, name in enumerate(self.classes):
            truth, chosen = self.truth[:, k], self.chosen[:, k]
            right, actual, said = int((truth & chosen).sum()), int(truth.sum()), int(chosen.sum())
            shares = (_share(right, said), _share(right, actual), _share(2 * right, actual + said))
            area = float(average_precision(self.probabilities[:, k], truth, once)[0])
            rows.append((name, actual, *shares, float(self.thresholds[k]), area))
        return Table(("class", "images", "precision", "recall", "f1", "threshold", "average_precision"), rows)

    def curves(self) -> list[Curve]:
        """Probability against truth, and the mean precision-recall curve."""
        found = (reliability(self.probabilities, self.truth), precision_recall(self.probabilities, self.truth))
        return [curve for curve in found if curve]


def marks(probabilities: np.ndarray, chosen: np.ndarray, classes: Sequence[str]) -> Marks:
    """What is said of one image: its classes in words, and the most probable ones as bars.

    Args:
        probabilities: float64 [K].
        chosen: whether each class is said, bool [K].
        classes: K names.
    """
    best = np.argsort(-probabilities, kind="stable")
    shown = [k for k in best.tolist() if chosen[k] or probabilities[k] >= SHOWN][:MOST_BARS] or best[:1].tolist()
    bars = [(classes[k], float(probabilities[k])) for k in shown]
    return Marks(words=in_words(chosen, classes), classes=classes, bars=bars)


def in_words(members: np.ndarray, classes: Sequence[str]) -> str:
    """`cat, dog`, in the order of the classes; `nothing`."""
    return ", ".join(classes[k] for k in np.flatnonzero(members).tolist()) or "nothing"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
