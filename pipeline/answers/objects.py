"""Objects in images: boxes with classes and scores beside the true boxes.

Tables, pictures and confusion need to know which boxes the model stands by. These are the ones that score at least
`threshold`: the one score, for all classes and images, at which F1 over all of them is highest at an IoU of 0.5, on the
validation split where the task was tuned there. COCO's scores need no threshold and see every box.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from pipeline.annotations import Runs
from pipeline.answering import Answers, Confusion, Curve, MarkedBox, Marks, Table
from pipeline.answers._arrow import from_table, to_columns
from pipeline.answers._coco import MOST, Judged, judge
from pipeline.answers._curves import average_precision, average_recall
from pipeline.answers._objects import apart, best_threshold, confused, precision_recall
from pipeline.answers._pairs import iou
from pipeline.answers._ragged import Ragged
from pipeline.boxes import area

COCO_IOUS = tuple(range(10))
"""Places of the IoUs 0.5, 0.55, ..., 0.95 among those that are scored."""


class Told(NamedTuple):
    """What becomes of each box at the threshold, bool [D] each, in the order of `ObjectAnswers.found`."""

    shown: np.ndarray
    """It scores at least as high, and is among the 100 surest of its image and class."""
    right: np.ndarray
    """It is shown, and found an object that no surer box of its class found."""
    wrong: np.ndarray
    """It is shown, and found nothing: neither an object nor a crowd of its class."""


class ObjectAnswers(Answers):
    """Boxes and truth of N images."""

    tolerance: ClassVar[float] = 1e-3
    """Suppression decides by differences: where two boxes are nearly alike, the other one may stay."""

    def __init__(
        self,
        classes: Sequence[str],
        truth: Sequence[np.ndarray] | Ragged,
        found: Sequence[np.ndarray] | Ragged,
        sizes: Sequence[tuple[int, int]] | np.ndarray,
        threshold: float | None = None,
    ) -> None:
        """Take what is said and what is true of each image, boxes in pixels of the original picture.

        Args:
            classes: K names.
            truth: of each image, float64 [g, 6], rows x1, y1, x2, y2, class id, 1 if it is a crowd.
            found: of each image, float64 [d, 6], rows x1, y1, x2, y2, score, class id. Of equal scores the first counts
                as the surer one. Rows that only pad an output are to be left out.
            sizes: width and height of each.
            threshold: see the head of this file; None: found out.

        Raises:
            ValueError: they are not of the same images, or name a class that is none.
        """
        self.classes = classes
        self.truth = Ragged.of(truth, 6)
        found = Ragged.of(found, 6)
        self.found = Ragged(found.rows[np.lexsort((-found.rows[:, 4], found.images))], found.starts)
        self.sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
        self._threshold = threshold
        self._given = threshold  # unlike a threshold that only `at` hands on, `again` keeps it
        if not len(self.truth) == len(self.found) == len(self.sizes):
            counts = f"{len(self.truth)} images have a truth, {len(self.found)} an answer, {len(self.sizes)} a size"
            raise ValueError(f"expected one of each image, but {counts}")
        for ids in (self.truth.rows[:, 4], self.found.rows[:, 5]):
            strange = ids[~np.isin(ids, np.arange(len(classes)))]
            if len(strange):
                raise ValueError(f"expected class ids in 0..{len(classes) - 1}, found {strange[0]:g}")

    def __len__(self) -> int:
        return len(self.found)

    @property
    def as_boxes(self) -> ObjectAnswers:
        """The same by boxes alone."""
        return self

    @cached_property
    def areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the objects that there are, float64 [G], and of those that are said, float64 [D]."""
        with np.errstate(invalid="ignore", over="ignore"):  # a network that has come to nothing says inf and nan
            return area(self.truth.rows[:, :4]), area(self.found.rows[:, :4])

    def overlap(self, found: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """IoU of said objects and true ones, pair by pair, by their places among all; of a crowd intersection over what
        is said: float64 [n]."""
        return iou(self.found.rows[found, :4], self.truth.rows[truth, :4], self.truth.rows[truth, 5] != 0)

    def agreement(self, other: Self, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """IoU of objects that are said here and there, pair by pair; 1 where they are equal: float64 [n]."""
        own, their = self.found.rows[mine, :4], other.found.rows[theirs, :4]
        return np.where((own == their).all(axis=1), 1.0, iou(own, their))  # equal boxes without area too

    @cached_property
    def judged(self) -> Judged:
        """Which boxes are right, at every IoU and for every range of area."""
        return judge(self.truth, self.found, len(self.classes), self.areas, self.overlap)

    @cached_property
    def threshold(self) -> float:
        """Boxes below it are not counted; of equally good ones the highest. `at` keeps that of the whole."""
        if self._threshold is not None:
            return self._threshold
        rows, objects = self.judged.rows, int((~self._crowd).sum())
        return best_threshold(self.found.rows[rows, 4], self.judged.right[0, 0], self.judged.ignored[0, 0], objects)

    @property
    def cut(self) -> float:
        """The middle between the threshold and the next lower score, in 0..1: for other images than these, as good a
        threshold as one that the least sure of the right boxes here just reaches, and no closer to either side."""
        scores = self.found.rows[self.judged.rows, 4]
        lower = float(scores[scores < self.threshold].max(initial=0.0))
        return min(1.0, max(0.0, (self.threshold + lower) / 2))

    @cached_property
    def told(self) -> Told:
        """Each box at the threshold, at an IoU of 0.5."""
        shown, right, wrong = np.zeros((3, len(self.found.rows)), bool)
        rows = self.judged.rows
        shown[rows] = self.found.rows[rows, 4] >= self.threshold
        right[rows] = self.judged.right[0, 0]
        wrong[rows] = ~self.judged.right[0, 0] & ~self.judged.ignored[0, 0]
        return Told(shown, shown & right, shown & wrong)

    @cached_property
    def quality(self) -> np.ndarray:
        """F1 of the boxes at the threshold, at an IoU of 0.5; 1 where nothing is there and nothing said."""
        right, wrong, objects = (counts.sum(axis=1) for counts in self._counts)
        return _f1(right, wrong, objects)

    @cached_property
    def by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """Classes with an object that is no crowd, and the F1 of their boxes."""
        right, wrong, objects = self._counts
        return objects > 0, _f1(right, wrong, objects)

    @cached_property
    def losses(self) -> np.ndarray:
        """Objects that are missed, and false boxes, each by its score: one is as bad as the model is sure of it."""
        right, _, objects = self._counts
        scores = np.clip(self.found.rows[:, 4], 0, 1)[self.told.wrong]
        false = np.bincount(self.found.images[self.told.wrong], weights=scores, minlength=len(self))
        losses: np.ndarray = (objects - right).sum(axis=1) + false
        return losses

    @cached_property
    def confidence(self) -> np.ndarray:
        """The mean score of the boxes at the threshold; where there are none, what the surest box lacks to 1."""
        scores, images = np.clip(np.nan_to_num(self.found.rows[:, 4]), 0, 1), self.found.images
        shown = self.told.shown
        count = np.bincount(images[shown], minlength=len(self))
        total = np.bincount(images[shown], weights=scores[shown], minlength=len(self))
        surest = np.zeros(len(self))
        np.maximum.at(surest, images, scores)
        return np.divide(total, count, out=1 - surest, where=count > 0)

    def said(self, position: int) -> Marks:
        """The boxes at the threshold; faint are those that found a crowd."""
        rows, faint = self._shown(position)
        return marks(self.found.rows[rows], faint, self.classes)

    def true(self, position: int) -> Marks:
        """The objects; faint are crowds, and they are not in the words."""
        rows = self.truth[position]
        return marks(scoreless(rows), rows[:, 5] != 0, self.classes)

    def columns(self) -> dict[str, Any]:
        """`objects`: a list of box, score and label, float64 and the name of the class."""
        return {"objects": to_columns(self.found, self.classes)}

    def again(self, table: Any) -> ObjectAnswers:
        """See `Answers.again`; exact."""
        found = from_table(table, self.classes, len(self))
        return ObjectAnswers(self.classes, self.truth, found, self.sizes, self._given)

    def at(self, positions: Sequence[int] | np.ndarray) -> ObjectAnswers:
        """See `Answers.at`; the threshold stays that of the whole."""
        chosen = np.arange(len(self))[np.asarray(positions, np.int64)]
        some = self.truth.at(chosen), self.found.at(chosen), self.sizes[chosen]
        part = ObjectAnswers(self.classes, *some, threshold=self.threshold)
        part._given = self._given
        return part

    def difference(self, other: Self) -> np.ndarray:
        """Boxes of one class are paired, those that overlap most first, down to an IoU of 0.5.

        A pair differs by its scores or by what its IoU lacks to 1, whichever is more; a box without partner by its
        score.
        """
        if len(self) != len(other):
            raise ValueError(f"answers to {len(self)} and to {len(other)} images cannot be compared")
        return apart(self.found, other.found, len(self.classes), partial(self.agreement, other))

    def confusion(self) -> Confusion:
        """Boxes at the threshold and objects, paired whatever their classes, those that overlap most first, down to an
        IoU of 0.5; of equal overlaps one class goes before two, then the surer box.

        What stays without partner is in the row or the column `background`. Crowds, and boxes that found one, are not
        counted.
        """
        said = self.told.shown & (self.told.right | self.told.wrong)
        counts = confused(self.truth, self.found, said, len(self.classes), self.overlap)
        nothing = "background" if "background" not in self.classes else "(background)"
        return Confusion([*self.classes, nothing], counts, "objects")

    def class_table(self) -> Table:
        """Precision and recall at the threshold, at an IoU of 0.5, and COCO's average precisions; nan of nothing."""
        right, wrong, objects = (counts.sum(axis=0) for counts in self._counts)
        areas = self.average_precision(np.ones((1, len(self))))[0]
        rows = [
            (name, int(n), _share(r, r + w), _share(r, n), float(ap[0]), float(ap[5]), float(ap.mean()))
            for name, n, r, w, ap in zip(self.classes, objects, right, wrong, areas, strict=True)
        ]
        return Table(("class", "objects", "precision", "recall", "ap50", "ap75", "ap"), rows)

    def curves(self) -> list[Curve]:
        """Precision over recall, the mean and the classes with the most objects."""
        return precision_recall(self.judged, self.classes, self._counts[2].sum(axis=0))

    def average_precision(self, weights: np.ndarray, area: str = "all", ious: Sequence[int] = COCO_IOUS) -> np.ndarray:
        """COCO's, of each class under each of R weightings of the images.

        Args:
            weights: float64 [R, N], >= 0. Boxes of one image and class that score alike stay together, so that a weight
                of 2 is the image twice but for such boxes.
            area: of the objects: `all`, `small` (to 32 x 32 pixels), `medium` or `large` (from 96 x 96).
            ious: T places among 0.5, 0.55, ..., 0.95.

        Returns:
            float64 [R, K, T]; nan where the objects of a class have no weight.
        """
        return average_precision(self.judged, weights, area, ious)

    def average_recall(self, weights: np.ndarray, area: str = "all", most: int = MOST) -> np.ndarray:
        """COCO's, of each class: the share of its objects among its `most` surest boxes in an image, float64 [R, K]."""
        return average_recall(self.judged, weights, area, most)

    def _shown(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Which boxes of an image are at the threshold, int64 [n], and which of them found a crowd, bool [n]."""
        span = self.found.span(position)
        shown = self.told.shown[span]
        faint = shown & ~self.told.right[span] & ~self.told.wrong[span]
        return span.start + np.flatnonzero(shown), faint[shown]

    @cached_property
    def _crowd(self) -> np.ndarray:
        crowd: np.ndarray = self.truth.rows[:, 5] != 0
        return crowd

    @cached_property
    def _counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Right boxes, wrong boxes and objects of each image and class: int64 [N, K] each."""
        cells = self.found.images * len(self.classes) + self.found.rows[:, 5].astype(np.int64)
        objects = (self.truth.images * len(self.classes) + self.truth.rows[:, 4].astype(np.int64))[~self._crowd]
        shape = (len(self), len(self.classes))
        right, wrong, there = (
            np.bincount(some, minlength=shape[0] * shape[1]).reshape(shape)
            for some in (cells[self.told.right], cells[self.told.wrong], objects)
        )
        return right, wrong, there


def scoreless(rows: np.ndarray) -> np.ndarray:
    """Rows of the truth as `marks` takes them."""
    return np.column_stack([rows[:, :4], np.full(len(rows), np.nan), rows[:, 4]])


def marks(rows: np.ndarray, faint: np.ndarray, classes: Sequence[str], insides: Sequence[Runs | None] = ()) -> Marks:
    """Objects to be drawn, and how many of each class in words, the most first.

    Args:
        rows: x1, y1, x2, y2, score (nan where there is none), class id.
        faint: those that are drawn and not in the words, bool [rows].
        classes: K names.
        insides: the pixels of each, where they are known.
    """
    boxes = [
        MarkedBox((x1, y1, x2, y2), classes[int(k)], None if np.isnan(score) else score, pale, inside)
        for (x1, y1, x2, y2, score, k), pale, inside in zip(
            rows.tolist(), faint.tolist(), insides or [None] * len(rows), strict=True
        )
    ]
    counts = Counter(box.name for box in boxes if not box.faint)
    words = ", ".join(f"{counts[name]} {name}" for name in sorted(counts, key=lambda name: (-counts[name], name)))
    return Marks(words=words or "nothing", boxes=boxes, classes=classes)


def _f1(right: np.ndarray, wrong: np.ndarray, objects: np.ndarray) -> np.ndarray:
    every = right + wrong + objects
    f1: np.ndarray = np.divide(2 * right, every, out=np.ones(every.shape), where=every > 0)
    return f1


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else float("nan")
