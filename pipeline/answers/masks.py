"""One class per pixel: the mask that a model gives an image, beside the true one, both as large as the picture.

Scores count over all pixels of all images, but void ones, so that a large picture counts for more than a small one;
what is said of one image alone, as `quality`, counts its pixels only.

Sources: Everingham et al. The PASCAL Visual Object Classes Challenge, 2010, section 4.2 (intersection over union, void
pixels left out); Csurka, Larlus, Perronnin. What is a good evaluation measure for semantic segmentation?, 2013, section
3.2 (boundaries).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from pipeline.answering import Answers, Confusion, Curve, Marks, Table
from pipeline.answers._pixels import Pixels, boundaries, boundary_scores, confusion, mean_known
from pipeline.answers._ratio import ratio
from pipeline.masks import VOID, decode

NAMED = 3
"""Classes that the words of an answer name."""
HEAD = 12
"""Bytes of an encoded mask that say what it is and how large."""


class MaskAnswers(Answers):
    """Masks and truth of N images."""

    tolerance: ClassVar[float] = 0.005
    """Where two classes are as good as equally probable, the size of the batch decides a pixel."""

    def __init__(
        self, classes: Sequence[str], truths: Sequence[bytes], masks: Sequence[bytes], confidences: np.ndarray
    ) -> None:
        """True masks and said ones, as `pipeline.masks` encodes them, and how sure each is, float64 [N] in 0..1."""
        self.classes = classes
        self.truths = truths
        self.masks = masks
        self._confidences = confidences

    def __len__(self) -> int:
        return len(self.truths)

    @cached_property
    def _counted(self) -> tuple[Pixels, np.ndarray]:
        """The pixels of each image, and what is taken for what in all of them, int64 [K, K]."""
        classes = len(self.classes)
        counts, total = np.zeros((3, len(self), classes), np.int64), np.zeros((classes, classes), np.int64)
        for position in range(len(self)):
            matrix = confusion(decode(self.truths[position]), decode(self.masks[position]), classes)
            counts[:, position] = matrix.sum(axis=1), matrix[:, :classes].sum(axis=0), np.diag(matrix)
            total += matrix[:, :classes]
        return Pixels(*counts), total

    @property
    def pixels(self) -> Pixels:
        """Of each image."""
        counts: Pixels = self._counted[0]
        return counts

    @cached_property
    def boundaries(self) -> np.ndarray:
        """How the boundaries of each class agree in each image, int64 [N, K, 4]: see `_pixels.boundaries`."""
        found = [
            boundaries(decode(true), decode(said), len(self.classes))
            for true, said in zip(self.truths, self.masks, strict=True)
        ]
        return np.stack(found) if found else np.zeros((0, len(self.classes), 4), np.int64)

    def summed(self, weights: np.ndarray) -> Pixels:
        """Pixels by class under weightings of the images float64 [R, N]: whole weights give exact sums."""
        return Pixels(*(np.einsum("rn,nk->rk", weights, part.astype(np.float64)) for part in self.pixels))

    @cached_property
    def boundary_quality(self) -> np.ndarray:
        """Mean boundary F1 of each image over its classes that have a boundary, float64 [N]; nan where none has."""
        return mean_known(boundary_scores(self.boundaries), axis=1)

    @cached_property
    def quality(self) -> np.ndarray:
        """Mean IoU over the classes that are true or said somewhere in the image; 1 where no pixel of it is known."""
        quality: np.ndarray = np.nan_to_num(mean_known(self.pixels.iou, axis=1), nan=1.0)
        return quality

    @cached_property
    def by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """An image holds the classes of its true pixels; how well is the IoU of the class in this image."""
        return self.pixels.true > 0, np.nan_to_num(self.pixels.iou)

    @property
    def losses(self) -> np.ndarray:
        """1 minus the quality."""
        losses: np.ndarray = 1 - self.quality
        return losses

    @property
    def confidence(self) -> np.ndarray:
        """As the model gave it."""
        return self._confidences

    def said(self, position: int) -> Marks:
        """The mask, and its largest classes with their shares."""
        return marks(self.masks[position], self.classes)

    def true(self, position: int) -> Marks:
        """The true mask, and its largest classes with their shares."""
        return marks(self.truths[position], self.classes)

    def columns(self) -> dict[str, Any]:
        """`mask`: runs, as `pipeline.masks` writes them; `confidence`."""
        import pyarrow as pa

        return {
            "mask": pa.array(list(self.masks), pa.large_binary()),
            "confidence": pa.array(self.confidence, pa.float64()),
        }

    def again(self, table: Any) -> MaskAnswers:
        """See `Answers.again`."""
        columns = [table.column(name).to_pylist() for name in ("mask", "confidence") if name in table.column_names]
        if len(columns) != 2 or len(columns[0]) != len(self) or any(type(mask) is not bytes for mask in columns[0]):
            raise ValueError(f"expected a mask and a confidence for each of {len(self)} images")
        if any(mask[:HEAD] != true[:HEAD] for mask, true in zip(columns[0], self.truths, strict=True)):
            raise ValueError("a mask that is not as large as its picture")  # before anything is unpacked
        told = MaskAnswers(self.classes, self.truths, columns[0], np.array(columns[1], np.float64))
        _ = told.pixels  # which looks at the classes
        return told

    def at(self, positions: Sequence[int] | np.ndarray) -> MaskAnswers:
        """See `Answers.at`; boundaries that are known are not sought again."""
        chosen = np.asarray(positions, np.int64)
        some = MaskAnswers(
            self.classes,
            [self.truths[position] for position in chosen],
            [self.masks[position] for position in chosen],
            self.confidence[chosen],
        )
        if "boundaries" in self.__dict__:
            some.__dict__["boundaries"] = self.boundaries[chosen]
        return some

    def difference(self, other: MaskAnswers) -> np.ndarray:
        """The share of pixels that differ; 1 for masks of different sizes."""
        return np.array([_apart(*pair) for pair in zip(self.masks, other.masks, strict=True)], np.float64)

    def confusion(self) -> Confusion:
        """Known pixels of each true class by the class that is said."""
        return Confusion(self.classes, self._counted[1], "pixels")

    def class_table(self) -> Table:
        """How each class fares over all images; nan where nothing of it is true or said."""
        total = self.summed(np.ones((1, len(self))))
        scores = (
            (self.pixels.true > 0).sum(axis=0).tolist(),
            total.true[0].astype(np.int64).tolist(),
            ratio(total.both, total.said, np.nan)[0].tolist(),
            ratio(total.both, total.true, np.nan)[0].tolist(),
            total.dice[0].tolist(),
            mean_known(boundary_scores(self.boundaries), axis=0).tolist(),
            total.iou[0].tolist(),
        )
        header = ("class", "images", "pixels", "precision", "recall", "dice", "boundary_f1", "iou")
        return Table(header, list(zip(self.classes, *scores, strict=True)))

    def curves(self) -> list[Curve]:
        """How many images reach which quality."""
        if not len(self):
            return []
        ordered = np.sort(self.quality)
        shares = 1 - np.arange(len(self)) / len(self)
        middle, low = np.quantile(ordered, [0.5, 0.1])
        points = [(0.0, 1.0), *zip(ordered.tolist(), shares.tolist(), strict=True), (float(ordered[-1]), 0.0)]
        summary = f"Half of the images reach a mean IoU of {middle:.2f}, and nine in ten of them {low:.2f}."
        names = ("Images by quality", "Mean IoU of an image", "Share that reaches it")
        return [Curve(*names, [("Images", points)], summary)]


def marks(mask: bytes, classes: Sequence[str]) -> Marks:
    """An encoded mask as people look at it: its largest classes, each with its share of the pixels that are known."""
    pixels = decode(mask)
    counts = np.bincount(pixels.ravel(), minlength=VOID + 1)[:VOID]
    largest = [index for index in np.argsort(-counts, kind="stable")[:NAMED].tolist() if counts[index]]
    words = ", ".join(f"{classes[index]} {counts[index] / counts.sum():.0%}" for index in largest)
    return Marks(words=words or "nothing is known", mask=pixels, classes=classes)


def _apart(first: bytes, second: bytes) -> float:
    if first == second:
        return 0.0
    one, other = decode(first), decode(second)
    return float((one != other).mean()) if one.shape == other.shape else 1.0
