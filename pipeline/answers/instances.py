"""Objects in images, pixel by pixel: what `objects` says of boxes is said here of their pixels.

IoU is that of pixels, and areas are numbers of pixels. Boxes can still be asked for: `as_boxes`.

Sources: pycocotools 2.0.11, cocoeval.py with `iouType="segm"`; Kirillov, He, Girshick, Rother, Dollar. Panoptic
Segmentation, 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from pipeline.answering import Marks
from pipeline.answers._arrow import insides_from_table, to_columns
from pipeline.answers._objects import SAME
from pipeline.answers._panoptic import Panoptic, panoptic
from pipeline.answers._ragged import Ragged
from pipeline.answers.objects import ObjectAnswers, marks, scoreless
from pipeline.runs import Insides

Pixels = Sequence[Sequence[Sequence[int] | np.ndarray]] | Insides
"""Of each image the runs of each object; or those of all objects."""


class InstanceAnswers(ObjectAnswers):
    """Objects and truth of N images."""

    tolerance: ClassVar[float] = 0.05
    """Where a pixel is as probable inside as outside, the size of the batch decides: of an object of 20 it is much."""

    def __init__(
        self,
        classes: Sequence[str],
        truth: tuple[Sequence[np.ndarray] | Ragged, Pixels],
        found: tuple[Sequence[np.ndarray] | Ragged, Pixels],
        sizes: Sequence[tuple[int, int]] | np.ndarray,
        threshold: float | None = None,
    ) -> None:
        """Take what is said and what is true of each image.

        Args:
            classes: K names.
            truth: of each image, rows as `ObjectAnswers` takes them, and the runs of each row.
            found: likewise. Boxes are as they were said: their pixels need not reach to their sides.
            sizes: width and height of each.
            threshold: see `objects.py`; None: found out.

        Raises:
            ValueError: they are not of the same images, or name a class that is none; runs do not fill their picture.
        """
        rows, sides = Ragged.of(found[0], 6), np.asarray(sizes, np.int64).reshape(-1, 2)
        super().__init__(classes, truth[0], rows, sides, threshold)
        self.truth_insides = _insides(truth[1], self.truth, sides)
        order = np.lexsort((-rows.rows[:, 4], rows.images))  # as boxes are sorted above
        self.found_insides = _insides(found[1], rows, sides).at(order)

    @cached_property
    def as_boxes(self) -> ObjectAnswers:
        """The same by boxes alone."""
        return ObjectAnswers(self.classes, self.truth, self.found, self.sizes, self._threshold)

    @property
    def areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of the objects that there are, float64 [G], and of those that are said, float64 [D]."""
        return self.truth_insides.areas, self.found_insides.areas

    def overlap(self, found: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """As `ObjectAnswers.overlap`, by pixels; 0 where it is less than matters."""
        return self.found_insides.iou(found, self.truth_insides, truth, self.truth.rows[truth, 5] != 0, SAME)

    def agreement(self, other: InstanceAnswers, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """As `ObjectAnswers.agreement`, by pixels or boxes, whichever agree less."""
        inside = self.found_insides.iou(mine, other.found_insides, theirs, least=SAME)
        both_empty = (self.found_insides.areas[mine] == 0) & (other.found_insides.areas[theirs] == 0)
        agreed: np.ndarray = np.minimum(np.where(both_empty, 1.0, inside), super().agreement(other, mine, theirs))
        return agreed

    @cached_property
    def panoptic(self) -> Panoptic:
        """How the objects at the threshold divide each image, no pixel among two of them."""
        truth, found = (self.truth, self.truth_insides), (self.found, self.found_insides)
        return panoptic(truth, found, self.told.shown, len(self.classes))

    def said(self, position: int) -> Marks:
        """The objects at the threshold; faint are those that found a crowd."""
        rows, faint = self._shown(position)
        return marks(self.found.rows[rows], faint, self.classes, [self.found_insides[row] for row in rows])

    def true(self, position: int) -> Marks:
        """The objects; faint are crowds, and they are not in the words."""
        rows, span = self.truth[position], self.truth.span(position)
        insides = [self.truth_insides[row] for row in range(span.start, span.stop)]
        return marks(scoreless(rows), rows[:, 5] != 0, self.classes, insides)

    def columns(self) -> dict[str, Any]:
        """`objects`: a list of box, score, label and runs."""
        return {"objects": to_columns(self.found, self.classes, self.found_insides)}

    def again(self, table: Any) -> InstanceAnswers:
        """See `Answers.again`; exact."""
        found = insides_from_table(table, self.classes, self.sizes)
        return InstanceAnswers(self.classes, (self.truth, self.truth_insides), found, self.sizes, self._given)

    def at(self, positions: Sequence[int] | np.ndarray) -> InstanceAnswers:
        """See `Answers.at`; the threshold stays that of the whole."""
        chosen = np.arange(len(self))[np.asarray(positions, np.int64)]
        truth, found = (
            (rows.at(chosen), insides.at(rows.places(chosen)[0]))
            for rows, insides in ((self.truth, self.truth_insides), (self.found, self.found_insides))
        )
        part = InstanceAnswers(self.classes, truth, found, self.sizes[chosen], self.threshold)
        part._given = self._given
        return part


def _insides(pixels: Pixels, rows: Ragged, sizes: np.ndarray) -> Insides:
    """The pixels of each row.

    Raises:
        ValueError: there are more or fewer of them, or they do not fill their picture.
    """
    counts = np.diff(rows.starts)
    if isinstance(pixels, Insides):
        if len(pixels) != len(rows.rows):
            raise ValueError(f"expected the pixels of {len(rows.rows)} objects, found those of {len(pixels)}")
        return pixels
    if list(map(len, pixels)) != counts.tolist():
        raise ValueError(f"expected the pixels of {len(rows.rows)} objects, found those of {sum(map(len, pixels))}")
    return Insides.of([one for of_image in pixels for one in of_image], np.repeat(sizes, counts, axis=0))
