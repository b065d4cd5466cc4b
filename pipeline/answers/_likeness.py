"""How alike images are by the angle between their embeddings, and what comes of it under weightings of the images.

A pair of images of two people weighs what its two images weigh, multiplied: an image that a resample has drawn twice is
in twice as many pairs. People are drawn whole, and one who is drawn twice is two people who are never compared: a pair
of images of one person weighs what that person weighs, the geometric mean of what its two images weigh. An image is no
pair with itself, however often it is drawn.

Sources: Fawcett. An Introduction to ROC Analysis, 2006; Phillips, Moon, Rizvi, Rauss. The FERET Evaluation Methodology
for Face-Recognition Algorithms, 2000, section 3 (cumulative match characteristic).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

PORTION = 256
"""Images that are compared with all at a time."""
DECIMALS = 12
SLACK = 1 + 1e-12
"""Of a share of weights: those that are no whole numbers do not add up to it."""


def distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """1 minus the cosine of the angle between embeddings [n, E] and [m, E] of length 1: float64 [n, m] in 0..2.

    To twelve decimals, so that equal angles are equal distances.
    """
    # No BLAS: its bits depend on its threads.
    apart: np.ndarray = np.clip((1 - np.einsum("ne,me->nm", left, right)).round(DECIMALS), 0.0, 2.0)
    return apart


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [..., E] at length 1, float64; one of zeros stays as it is: it is at a right angle to all."""
    wide = np.asarray(embeddings, np.float64)
    lengths = np.sqrt((wide**2).sum(axis=-1, keepdims=True))
    straight: np.ndarray = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths != 0)
    return straight


@dataclass(frozen=True)
class Pairs:
    """Every two of N images, the nearest first; n pairs in all, of which p show the same person."""

    first: np.ndarray
    """Position of one image of each, int64 [n]."""
    second: np.ndarray
    """Of the other, int64 [n]."""
    distances: np.ndarray
    """float64 [n], never falling."""
    same: np.ndarray
    """Which pairs show the same person, ascending, int64 [p]."""
    ends: np.ndarray
    """The last pair of each distance: between two of them the order is nobody's, int64 [d]."""

    @classmethod
    def of(cls, embeddings: np.ndarray, labels: np.ndarray) -> Pairs:
        """Of embeddings float64 [N, E] of length 1, and who is on the images, int64 [N]."""
        count = len(labels)
        found = [np.zeros(0)]
        for start in range(0, count, PORTION):
            rows = distances(embeddings[start : start + PORTION], embeddings)
            found.append(rows[np.arange(len(rows))[:, None] + start < np.arange(count)])
        first, second = np.triu_indices(count, 1)
        apart = np.concatenate(found)
        order = np.argsort(apart, kind="stable")
        first, second, apart = first[order], second[order], apart[order]
        same = np.flatnonzero(labels[first] == labels[second])
        return cls(first, second, apart, same, np.flatnonzero(np.diff(apart, append=np.inf)))

    def curves(self, weights: np.ndarray) -> Iterator[Roc]:
        """What is accepted the farther apart two images may be, under each of the weightings [R, N].

        Each is valid until the next one is asked for: they share their memory.
        """
        upto = np.searchsorted(self.same, self.ends, side="right")
        steps = np.searchsorted(self.ends, self.same)
        each, others = np.empty(len(self.first)), np.empty(len(self.first))
        for row in weights:
            # A check of every position would take a copy; all of them are below N.
            np.take(row, self.first, out=each, mode="clip")
            np.take(row, self.second, out=others, mode="clip")
            np.multiply(each, others, out=each)
            each[self.same] = np.sqrt(each[self.same])
            found = np.append(0.0, np.cumsum(each[self.same]))
            yield Roc(np.cumsum(each, out=each), found, self.ends, upto, steps)


@dataclass(frozen=True)
class Roc:
    """The weight of the pairs that are taken for one person, by how far apart they may be: a step for each distance."""

    accepted: np.ndarray
    """Of the pairs up to each, float64 [n]."""
    found: np.ndarray
    """Of the first 0, 1, ... pairs of the same person, float64 [p + 1]."""
    ends: np.ndarray
    """The last pair of each step, int64 [d]."""
    upto: np.ndarray
    """How many pairs of the same person are up to each step, int64 [d]."""
    steps: np.ndarray
    """The step of each pair of the same person, int64 [p]."""

    @property
    def same(self) -> float:
        """The weight of all pairs of the same person."""
        return float(self.found[-1])

    @property
    def other(self) -> float:
        """Of all others."""
        return float(self.accepted[-1] - self.found[-1]) if len(self.accepted) else 0.0

    @property
    def defined(self) -> bool:
        """Whether there are pairs of both kinds."""
        return self.same > 0 and self.other > 0

    def false_accepts(self, step: int) -> float:
        """The share of the pairs of two people that are accepted up to a step; 0 at step -1."""
        return self._mistaken(step) / self.other

    def true_accepts(self, step: int) -> float:
        """Likewise of the pairs of one person."""
        return float(self.found[self.upto[step]]) / self.same if step >= 0 else 0.0

    def area(self) -> float:
        """How often a pair of one person is nearer than one of two people; as near counts half."""
        nearer = np.where(self.steps > 0, self._all_mistaken(self.steps - 1), 0.0)
        weights = np.diff(self.found)
        return 1 - float((weights * (nearer + self._all_mistaken(self.steps))).sum()) / (2 * self.same * self.other)

    def equal_error(self) -> float:
        """The error rate where as many pairs of two people are accepted as pairs of one are refused.

        Between two steps of the curve it is a straight line, as scikit-learn's area has it.
        """
        step = self.crossing()
        lower, upper = self._excess(step - 1), self._excess(step)
        share = lower / (lower - upper)
        start = self.false_accepts(step - 1)
        return start + share * (self.false_accepts(step) - start)

    def crossing(self) -> int:
        """The first step at which no fewer pairs of two people are accepted than pairs of one are refused."""
        return bisect_left(range(len(self.ends)), 0.0, key=self._excess)

    def within(self, share: float) -> int:
        """The last step at which no more than this share of the pairs of two people are accepted; -1: none is."""
        return bisect_right(range(len(self.ends)), share * self.other * SLACK, key=self._mistaken) - 1

    def _excess(self, step: int) -> float:
        return self.false_accepts(step) + self.true_accepts(step) - 1

    def _mistaken(self, step: int) -> float:
        return float(self.accepted[self.ends[step]] - self.found[self.upto[step]]) if step >= 0 else 0.0

    def _all_mistaken(self, steps: np.ndarray) -> np.ndarray:
        mistaken: np.ndarray = self.accepted[self.ends[steps]] - self.found[self.upto[steps]]
        return mistaken


@dataclass(frozen=True)
class Neighbours:
    """The other images of each of N images, the nearest first; of equally near ones that of the smaller position."""

    order: np.ndarray
    """Positions, int32 [N, N - 1]."""
    nearest: np.ndarray
    """Distance of the nearest image of the same person, inf where there is none, float64 [N]."""
    stranger: np.ndarray
    """Of the nearest image of another person, likewise."""

    @classmethod
    def of(cls, embeddings: np.ndarray, labels: np.ndarray) -> Neighbours:
        """Of embeddings float64 [N, E] of length 1, and who is on the images, int64 [N]."""
        count = len(labels)
        order = np.zeros((count, max(0, count - 1)), np.int32)
        nearest, stranger = np.full(count, np.inf), np.full(count, np.inf)
        for start in range(0, count, PORTION):
            rows = distances(embeddings[start : start + PORTION], embeddings)
            own = np.arange(start, start + len(rows))
            rows[np.arange(len(rows)), own] = np.inf
            same = labels[own][:, None] == labels
            order[own] = np.argsort(rows, axis=1, kind="stable")[:, : count - 1]
            nearest[own] = np.where(same, rows, np.inf).min(axis=1)
            stranger[own] = np.where(same, np.inf, rows).min(axis=1)
        return cls(order, nearest, stranger)

    def found(self, labels: np.ndarray, among: int) -> np.ndarray:
        """Whether an image of the same person is among the nearest.

        Args:
            labels: who is on the images, int64 [N].
            among: how many other images are looked at, the nearest first.

        Returns:
            bool [N].
        """
        found: np.ndarray = (labels[self.order[:, :among]] == labels[:, None]).any(axis=1)
        return found
