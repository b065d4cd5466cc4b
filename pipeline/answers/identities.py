"""Who is shown: an embedding of each image, beside the person who is on it.

Nothing is told of one image alone: two images are alike by the angle between their embeddings, and each image is judged
against all others of its split, whose people no training has seen. The distance of two images is 1 minus the cosine of
that angle: 0 where they point the same way, 1 at a right angle, 2 where they are opposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.answering import Answers, Cell, Confusion, Curve, Marks, Table
from pipeline.answers._likeness import Neighbours, Pairs, Roc, distances, unit
from pipeline.answers._recognition import accepted, ranked, threshold

PORTION = 256


class IdentityAnswers(Answers):
    """Embeddings and people of N images."""

    def __init__(
        self, classes: Sequence[str], labels: np.ndarray, embeddings: np.ndarray, threshold: float | None = None
    ) -> None:
        """Take what was told.

        Args:
            classes: the names of all people, K of them.
            labels: who is on each image, int64 [N].
            embeddings: float64 [N, E]; only where they point counts.
            threshold: two images nearer to each other than this are one person; None: nobody has decided.
        """
        self.classes = classes
        self.labels = labels
        self.embeddings = embeddings
        self.threshold = threshold

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def directions(self) -> np.ndarray:
        """The embeddings at length 1, float64 [N, E]."""
        return unit(self.embeddings)

    @cached_property
    def pairs(self) -> Pairs:
        """Every two of the images."""
        return Pairs.of(self.directions, self.labels)

    @cached_property
    def neighbours(self) -> Neighbours:
        """The other images of each, the nearest first."""
        return Neighbours.of(self.directions, self.labels)

    @cached_property
    def roc(self) -> Roc:
        """What is accepted the farther apart two images may be."""
        return next(self.pairs.curves(np.ones((1, len(self)))))

    def chosen(self, false_accepts: float | None) -> float | None:
        """The threshold that fits these images: see `_recognition.threshold`."""
        return threshold(self.roc, self.pairs.distances, false_accepts)

    @cached_property
    def alone(self) -> np.ndarray:
        """Whether an image is the only one of its person, bool [N]."""
        alone: np.ndarray = np.isinf(self.neighbours.nearest)
        return alone

    @cached_property
    def taken_for(self) -> np.ndarray:
        """The position of the nearest other image, int64 [N]; of the image itself where there is no other."""
        order = self.neighbours.order
        return order[:, 0].astype(np.int64) if order.shape[1] else np.arange(len(self))

    @cached_property
    def apart(self) -> np.ndarray:
        """The distance of the nearest other image, float64 [N]; inf where there is no other."""
        apart: np.ndarray = np.minimum(self.neighbours.nearest, self.neighbours.stranger)
        return apart

    @cached_property
    def quality(self) -> np.ndarray:
        """1 where the nearest other image is of the same person, else 0.

        An image whose person is on no other cannot be answered so. It is answered rightly if nobody is taken for that
        person: if all others are as far as the threshold or farther, or there is none.
        """
        right = self.labels[self.taken_for] == self.labels
        refused = np.full(len(self), True) if self.threshold is None else self.apart >= self.threshold
        return np.where(self.alone, refused, right).astype(np.float64)

    @cached_property
    def by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """Each image holds its person, if there is a second image of that person to find."""
        present = (self.labels[:, None] == np.arange(len(self.classes))) & ~self.alone[:, None]
        return present, present * self.quality[:, None]

    @cached_property
    def losses(self) -> np.ndarray:
        """How much nearer the nearest of another person is than the nearest of the same one, from 0 to 4: 2 is as near.

        The threshold, or a right angle if there is none, stands for a person who is on no other image.
        """
        own, other = self.neighbours.nearest, self.neighbours.stranger
        own = np.where(np.isinf(own), 1.0 if self.threshold is None else self.threshold, own)
        losses: np.ndarray = 2 + own - np.where(np.isinf(other), 2.0, other)
        return losses

    @cached_property
    def confidence(self) -> np.ndarray:
        """How alike the nearest other image is: 1 where it points the same way, 0 where it is opposed."""
        confidence: np.ndarray = 1 - np.minimum(self.apart, 2.0) / 2
        return confidence

    def said(self, position: int) -> Marks:
        """Who the image is taken for: the person on the nearest other one, which is to be shown beside it."""
        if len(self) < 2:
            return Marks(words="no other image to compare it with", classes=self.classes)
        nearest, apart = int(self.taken_for[position]), float(self.apart[position])
        name = self.classes[self.labels[nearest]]
        words = f"taken for {name} (distance {apart:.2f})"
        if self.threshold is not None and apart >= self.threshold:
            words = f"taken for nobody here; the nearest is {name} (distance {apart:.2f})"
        return Marks(words=words, classes=self.classes, beside=nearest)

    def true(self, position: int) -> Marks:
        """The person."""
        return Marks(words=self.classes[self.labels[position]], classes=self.classes)

    def columns(self) -> dict[str, Any]:
        """`embedding`: a list of E a row."""
        import pyarrow as pa

        flat = pa.array(np.ascontiguousarray(self.embeddings, np.float64).ravel())
        starts = np.arange(len(self) + 1, dtype=np.int32) * self.embeddings.shape[1]
        return {"embedding": pa.ListArray.from_arrays(pa.array(starts), flat)}

    def again(self, table: Any) -> IdentityAnswers:
        """See `Answers.again`. Embeddings may be of another length: no number of one means anything by itself."""
        rows = table.column("embedding").to_pylist() if "embedding" in table.column_names else None
        if rows is None or len(rows) != len(self) or len({len(row) if row else 0 for row in rows} - {0}) > 1:
            raise ValueError(f"expected embeddings of one length for {len(self)} images")
        told = np.array(rows, np.float64).reshape(len(self), -1) if rows else np.zeros((0, self.embeddings.shape[1]))
        return IdentityAnswers(self.classes, self.labels, told, self.threshold)

    def at(self, positions: Sequence[int] | np.ndarray) -> IdentityAnswers:
        """See `Answers.at`: they are judged against each other alone."""
        chosen = np.asarray(positions, np.int64)
        return IdentityAnswers(self.classes, self.labels[chosen], self.embeddings[chosen], self.threshold)

    def difference(self, other: IdentityAnswers) -> np.ndarray:
        """The largest change of a distance to any other image; embeddings that are all turned alike are the same."""
        known = np.isfinite(self.directions).all(axis=1) & np.isfinite(other.directions).all(axis=1)
        mine, theirs = self.directions[known], other.directions[known]
        largest = [np.zeros(0)]
        for start in range(0, len(mine), PORTION):
            part = slice(start, start + PORTION)
            largest.append(np.abs(distances(mine[part], mine) - distances(theirs[part], theirs)).max(axis=1))
        apart = np.full(len(self), np.nan)
        apart[known] = np.concatenate(largest)
        return apart

    def confusion(self) -> Confusion:
        """Images of each person by the person on the nearest other one; people of other splits are left out."""
        present, person = np.unique(self.labels, return_inverse=True)
        counts = np.zeros((len(present), len(present)), np.int64)
        if len(self) > 1:
            np.add.at(counts, (person, person[self.taken_for]), 1)
        return Confusion([self.classes[label] for label in present], counts, "images")

    def class_table(self) -> Table:
        """Of each person how far the nearest image of the same and of another person is on average, and how many images
        are nearest to one of the same; nan for people of other splits."""
        header = ("class", "images", "nearest_same", "nearest_other", "rank1")
        rows: list[tuple[Cell, ...]] = []
        for label, name in enumerate(self.classes):
            mine = np.flatnonzero((self.labels == label) & ~self.alone)
            parts = (self.neighbours.nearest[mine], self.neighbours.stranger[mine], self.quality[mine])
            rows.append((name, int((self.labels == label).sum()), *(_mean(part) for part in parts)))
        return Table(header, rows)

    def curves(self) -> list[Curve]:
        """What is accepted by how strict one is, and how soon the right person is found."""
        return [
            *([accepted(self.roc)] if self.roc.defined else []),
            *([] if self.alone.all() else [ranked(self.neighbours, self.labels)]),
        ]


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
