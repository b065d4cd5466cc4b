"""Named points: the place that a model gives each, beside where it is.

A distance counts as a share of a normaliser, so that it means the same in pictures of any size. An image is judged by
the points of it that are known; the others count for nothing.

Sources: Sagonas, Antonakos, Tzimiropoulos, Zafeiriou, Pantic. 300 Faces In-the-Wild Challenge: database and results,
2016, section 5 (mean error over the distance of the outer corners of the eyes, cumulative distribution); Yang, Ramanan.
Articulated Human Detection with Flexible Mixtures of Parts, 2013, section 6 (percentage of correct keypoints).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from pipeline.answering import Answers, Confusion, Curve, MarkedPoint, Marks, Span, Table

NEAR = 0.1
"""A point within this share of the normaliser is told rightly (PCK@0.1)."""
NEARER = 0.05
FAR = 1e6
"""A distance beyond it, or one that is no number, counts as this: what is told is finite then."""
SHOWN = 0.2
"""Where the axis of the curves ends."""
PORTION = 256
"""Images whose points are compared with each other at a time."""


class PointAnswers(Answers):
    """Told and true places of the J points of N images."""

    tolerance: ClassVar[float] = 0.001

    def __init__(
        self, classes: Sequence[str], truth: np.ndarray, told: np.ndarray, sizes: np.ndarray, normalise: Any = "box"
    ) -> None:
        """See the class.

        Args:
            classes: names of the points.
            truth: x and y in pixels of the picture, float64 [N, J, 2]; nan where a point is not known.
            told: x, y and score, float64 [N, J, 3].
            sizes: width and height of the pictures, int64 [N, 2].
            normalise: what a distance is divided by: `box`, `picture`, or the positions of two points. See `scales`.
        """
        self.classes = classes
        self.truth = truth
        self.told = told
        self.sizes = sizes
        self.normalise = normalise

    def __len__(self) -> int:
        return len(self.truth)

    @cached_property
    def known(self) -> np.ndarray:
        """Which points are, bool [N, J]."""
        known: np.ndarray = np.isfinite(self.truth).all(axis=2)
        return known

    @cached_property
    def scales(self) -> np.ndarray:
        """What distances are divided by, float64 [N], > 0.

        The distance of two points; where one is not known, or of the box around all that are, the root of its area;
        where it has none, that of the picture.
        """
        scales: np.ndarray = np.sqrt(np.prod(self.sizes.astype(np.float64), axis=1))
        if self.normalise == "picture":
            return scales
        spans = _extent(self.truth, self.known)
        box = np.sqrt(np.prod(spans, axis=1))
        scales = np.where(box > 0, box, scales)
        if self.normalise != "box":
            first, second = (self.truth[:, position] for position in self.normalise)
            between = np.nan_to_num(np.hypot(*(first - second).T), nan=0.0)
            scales = np.where(between > 0, between, scales)
        return scales

    @cached_property
    def errors(self) -> np.ndarray:
        """How far each point is told from where it is, as a share of the normaliser: float64 [N, J]; nan: not known."""
        apart = self.told[:, :, :2] - np.where(self.known[:, :, None], self.truth, 0)
        shares = np.hypot(apart[:, :, 0], apart[:, :, 1]) / self.scales[:, None]
        return np.where(self.known, np.minimum(np.nan_to_num(shares, nan=FAR, posinf=FAR), FAR), np.nan)

    def within(self, share: float) -> np.ndarray:
        """Known points that are told within a share of the normaliser, bool [N, J]."""
        near: np.ndarray = np.nan_to_num(self.errors, nan=np.inf) <= share
        return near

    @cached_property
    def mean_errors(self) -> np.ndarray:
        """The mean over the known points of each image, float64 [N]; nan where none is."""
        return _mean(self.errors, axis=1)

    @cached_property
    def quality(self) -> np.ndarray:
        """The share of the known points that is told within 0.1 of the normaliser; 1 where none is known."""
        counts = self.known.sum(axis=1)
        return np.where(counts > 0, self.within(NEAR).sum(axis=1) / np.maximum(counts, 1), 1.0)

    @cached_property
    def by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """An image holds the points that are known; each is told within 0.1 of the normaliser, or not."""
        return self.known, self.within(NEAR).astype(np.float64)

    @property
    def losses(self) -> np.ndarray:
        """The mean error; 0 where no point is known."""
        losses: np.ndarray = np.nan_to_num(self.mean_errors, nan=0.0)
        return losses

    @cached_property
    def confidence(self) -> np.ndarray:
        """The mean score of the points."""
        scores: np.ndarray = np.clip(np.nan_to_num(self.told[:, :, 2], nan=0.0), 0, 1).mean(axis=1)
        return scores

    def said(self, position: int) -> Marks:
        """Every point."""
        return marks(self.told[position], self.classes)

    def true(self, position: int) -> Marks:
        """The points that are known."""
        return marks(self.truth[position], self.classes)

    def columns(self) -> dict[str, Any]:
        """`places`: x, y and score of each point in turn."""
        import pyarrow as pa

        flat = pa.array(self.told.astype(np.float64).ravel())
        starts = np.arange(len(self) + 1, dtype=np.int64) * (3 * len(self.classes))
        return {"places": pa.LargeListArray.from_arrays(pa.array(starts), flat)}

    def again(self, table: Any) -> PointAnswers:
        """See `Answers.again`."""
        rows = table.column("places").to_pylist() if "places" in table.column_names else None
        count = 3 * len(self.classes)
        if rows is None or len(rows) != len(self) or any(row is None or len(row) != count for row in rows):
            raise ValueError(f"expected places of {len(self.classes)} points for {len(self)} images")
        told = np.array(rows, np.float64).reshape(len(self), len(self.classes), 3)
        return PointAnswers(self.classes, self.truth, told, self.sizes, self.normalise)

    def at(self, positions: Sequence[int] | np.ndarray) -> PointAnswers:
        """See `Answers.at`."""
        chosen = np.asarray(positions, np.int64)
        return PointAnswers(self.classes, self.truth[chosen], self.told[chosen], self.sizes[chosen], self.normalise)

    def difference(self, other: PointAnswers) -> np.ndarray:
        """The mean distance of the points, as a share of the picture, or of their scores, whichever is larger."""
        sides = np.sqrt(np.prod(self.sizes.astype(np.float64), axis=1))
        apart = self.told - other.told
        moved = np.hypot(apart[:, :, 0], apart[:, :, 1]).mean(axis=1) / sides
        differing: np.ndarray = np.maximum(moved, np.abs(apart[:, :, 2]).mean(axis=1))
        return differing

    def confusion(self) -> Confusion:
        """The point that lies nearest to where each known one is told: itself, if it is not told far off."""
        count = len(self.classes)
        counts = np.zeros((count, count), np.int64)
        for start in range(0, len(self), PORTION):
            some = slice(start, start + PORTION)
            known = self.known[some]
            true = np.where(known[:, :, None], self.truth[some], np.inf)
            said = np.nan_to_num(self.told[some, :, :2], nan=0.0, posinf=0.0, neginf=0.0)
            apart = ((said[:, :, None] - true[:, None]) ** 2).sum(axis=3)
            own = np.arange(count)
            apart[:, own, own] -= 1e-9  # of two at the same place the right one
            images, rows = np.nonzero(known)
            nearest = apart[images, rows].argmin(axis=1)
            counts += np.bincount(rows * count + nearest, minlength=count**2).reshape(count, count)
        return Confusion(self.classes, counts, "points")

    def class_table(self) -> Table:
        """How each point fares; nan where it is known in no image."""
        images = self.known.sum(axis=0)
        columns = (
            images.tolist(),
            _mean(self.errors, axis=0).tolist(),
            _share(self.within(NEARER).sum(axis=0), images),
            _share(self.within(NEAR).sum(axis=0), images),
        )
        header = ("class", "images", "mean_error", "pck_0.05", "pck_0.1")
        return Table(header, list(zip(self.classes, *columns, strict=True)))

    def curves(self) -> list[Curve]:
        """How many images, and how many points, are told within which distance."""
        images, points = self.mean_errors[np.isfinite(self.mean_errors)], self.errors[self.known]
        if not len(images):
            return []
        middle, most = np.quantile(images, [0.5, 0.9])
        summary = (
            f"Half of the images have a mean error of {middle:.3f} of the normaliser or less, nine in ten of "
            f"{most:.3f}; {(points <= NEAR).mean():.1%} of the points are within {NEAR:g} of it, "
            f"{(points <= NEARER).mean():.1%} within {NEARER:g}."
        )
        return [
            Curve(
                title="Errors",
                x_label="Distance, as a share of the normaliser",
                x_span=Span(0, SHOWN),
                y_label="Share within it",
                series=[("Images, by mean error", _cumulative(images)), ("Points", _cumulative(points))],
                summary=summary,
            )
        ]


def marks(places: np.ndarray, classes: Sequence[str]) -> Marks:
    """Points float64 [J, 2 or more] as people look at them; one that is nan is not shown."""
    points = [
        MarkedPoint(x, y, name)
        for (x, y), name in zip(places[:, :2].tolist(), classes, strict=True)
        if np.isfinite(x) and np.isfinite(y)
    ]
    return Marks(words=f"{len(points)} point{'s' * (len(points) != 1)}", points=points, classes=classes)


def _extent(places: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Width and height of the box around the known points of each image, float64 [N, 2]; 0 where there are none."""
    low = np.where(known[:, :, None], places, np.inf).min(axis=1, initial=np.inf)
    high = np.where(known[:, :, None], places, -np.inf).max(axis=1, initial=-np.inf)
    extent: np.ndarray = np.maximum(high - low, 0)
    return extent


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Of what is not nan; nan where all is."""
    known = ~np.isnan(values)
    counts = known.sum(axis=axis)
    return np.where(counts > 0, np.where(known, values, 0).sum(axis=axis) / np.maximum(counts, 1), np.nan)


def _share(parts: np.ndarray, wholes: np.ndarray) -> list[float]:
    shares: list[float] = np.where(wholes > 0, parts / np.maximum(wholes, 1), np.nan).tolist()
    return shares


def _cumulative(errors: np.ndarray) -> list[tuple[float, float]]:
    """Of each distance up to `SHOWN`, as a share of it, the share of errors that are not larger."""
    grid = np.linspace(0, SHOWN, 101)
    shares = np.searchsorted(np.sort(errors), grid, side="right") / len(errors)
    return [(float(x / SHOWN), float(y)) for x, y in zip(grid, shares, strict=True)]
