"""Numbers of each image, measured or counted: what is said of them beside what is true."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.answering import Answers, Confusion, Curve, Marks, Table
from pipeline.answers._curves_of_numbers import curves_of
from pipeline.numbers import ROUNDING, SMALLEST, Scale, decoded, distance, learnt, worded

NAMED = 8
"""Numbers that the words of an answer tell."""
SAID = 4
"""Digits of an answer that are worth reading; of the truth as many as `worded` shows."""
THIRDS = ("low", "middle", "high")


class NumberAnswers(Answers):
    """Numbers and truth of N images.

    Where images belong together, such as those of one house, the answer to each is the mean of what was told of them
    all, as it is learnt: of a number that is learnt as a logarithm the geometric mean. Such images count once.
    """

    def __init__(
        self,
        names: Sequence[str],
        truth: np.ndarray,
        told: np.ndarray,
        scales: Sequence[Scale],
        *,
        groups: np.ndarray | None = None,
        alike: bool = False,
    ) -> None:
        """Take what was answered.

        Args:
            names: of the numbers, T of them.
            truth: float64 [N, T]; nan where one is not known, which then counts for nothing.
            told: float64 [N, T], of each image by itself.
            scales: T of them: how the numbers are learnt.
            groups: of each image which it belongs together with, int64 [N]; None: each image is by itself.
            alike: whether all numbers have one unit, as counts do.
        """
        self.classes = names
        self.truth = truth
        self.told = told
        self.scales = scales
        self.groups = groups
        self.alike = alike or len(names) == 1

    def __len__(self) -> int:
        return len(self.truth)

    @cached_property
    def answer(self) -> np.ndarray:
        """What is said of each image, float64 [N, T]."""
        if self.groups is None:
            return self.told
        _, group, sizes = np.unique(self.groups, return_inverse=True, return_counts=True)
        columns = learnt(self.told, self.scales)
        sums = np.zeros((len(sizes), columns.shape[1]))
        np.add.at(sums, group, columns)
        means: np.ndarray = decoded(sums / sizes[:, None], self.scales)[group]
        return means

    @cached_property
    def counted(self) -> np.ndarray:
        """The first image of each group."""
        first = np.ones(len(self), bool)
        if self.groups is not None:
            first[:] = False
            first[np.unique(self.groups, return_index=True)[1]] = True
        return first

    @cached_property
    def known(self) -> np.ndarray:
        """Whether each number of each image is known, bool [N, T]."""
        known: np.ndarray = ~np.isnan(self.truth)
        return known

    @cached_property
    def errors(self) -> np.ndarray:
        """What is said minus what is true, in the number's own unit, float64 [N, T]; nan where it is not known."""
        return distance(self.answer, self.truth, self.scales)

    @cached_property
    def relative(self) -> np.ndarray:
        """The same in deviations of the training pictures, of logarithms where these are learnt, float64 [N, T].

        The deviation of a circular number is that of one that lies anywhere on the circle.
        """
        scaled = np.empty_like(self.errors)
        for column, scale in enumerate(self.scales):
            if scale.kind == "log":
                said, true = (learnt(side[:, [column]], [scale])[:, 0] for side in (self.answer, self.truth))
                scaled[:, column] = said - true
            else:
                unit = scale.period / 12**0.5 if scale.kind == "circular" else scale.deviation
                scaled[:, column] = self.errors[:, column] / unit
        return scaled

    @cached_property
    def qualities(self) -> np.ndarray:
        """How well each number is answered, float64 [N, T]: 1 / (1 + deviations that it is away); 0 of an unknown."""
        qualities: np.ndarray = np.where(self.known, 1 / (1 + np.abs(self.relative)), 0.0)
        return qualities

    @cached_property
    def quality(self) -> np.ndarray:
        """The mean over the known numbers: 1 is exact, 1/2 is one deviation away, 1/4 three of them."""
        counts = self.known.sum(axis=1)
        quality: np.ndarray = np.where(counts > 0, self.qualities.sum(axis=1) / np.maximum(counts, 1), 1.0)
        return quality

    @cached_property
    def by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """Each image holds the numbers that are known of it."""
        return self.known, self.qualities

    @cached_property
    def losses(self) -> np.ndarray:
        """The mean over the known numbers of the squared deviations."""
        squares = np.where(self.known, np.square(self.relative), 0.0).sum(axis=1)
        means = squares / np.maximum(self.known.sum(axis=1), 1)
        losses: np.ndarray = np.nan_to_num(means, posinf=np.finfo(np.float64).max)
        return losses

    @property
    def confidence(self) -> np.ndarray:
        """1: a number is told without a word on how sure it is."""
        return np.ones(len(self))

    def said(self, position: int) -> Marks:
        """The numbers, to four digits."""
        return Marks(words=in_words(self.classes, self.answer[position], SAID), classes=self.classes)

    def true(self, position: int) -> Marks:
        """The known ones."""
        return Marks(words=in_words(self.classes, self.truth[position]), classes=self.classes)

    def columns(self) -> dict[str, Any]:
        """`numbers`: a list of T a row, as they were told of the image by itself."""
        import pyarrow as pa

        starts = np.arange(len(self) + 1, dtype=np.int32) * len(self.classes)
        return {"numbers": pa.ListArray.from_arrays(pa.array(starts), pa.array(self.told.ravel()))}

    def again(self, table: Any) -> NumberAnswers:
        """See `Answers.again`."""
        rows = table.column("numbers").to_pylist() if "numbers" in table.column_names else None
        if rows is None or len(rows) != len(self) or any(len(row) != len(self.classes) for row in rows):
            raise ValueError(f"expected {len(self.classes)} numbers for each of {len(self)} images")
        told = np.array(rows, np.float64).reshape(len(self), len(self.classes))
        return NumberAnswers(self.classes, self.truth, told, self.scales, groups=self.groups, alike=self.alike)

    def at(self, positions: Sequence[int] | np.ndarray) -> NumberAnswers:
        """See `Answers.at`; of images that belong together, the mean goes over those that are left."""
        chosen = np.asarray(positions, np.int64)
        groups = None if self.groups is None else self.groups[chosen]
        truth, told = self.truth[chosen], self.told[chosen]
        return NumberAnswers(self.classes, truth, told, self.scales, groups=groups, alike=self.alike)

    def difference(self, other: NumberAnswers) -> np.ndarray:
        """The largest difference of a number told of the image by itself, as a share of it, or of its deviation."""
        gaps = np.abs(distance(self.told, other.told, self.scales))
        shares = np.empty_like(gaps)
        for column, scale in enumerate(self.scales):
            size = np.maximum(np.abs(self.told[:, column]), np.abs(other.told[:, column]))
            unit = {"linear": scale.deviation, "log": 0.0, "circular": scale.period}[scale.kind]
            shares[:, column] = gaps[:, column] / np.maximum(np.maximum(size, unit), np.finfo(np.float64).tiny)
        apart: np.ndarray = shares.max(axis=1, initial=0.0)
        return apart

    def confusion(self) -> Confusion:
        """Numbers by the third of the true ones that they are in, and the third that is said; of a circle, its thirds.

        Of one number the names tell where the thirds begin.
        """
        counts, ends = np.zeros((3, 3), np.int64), np.zeros(2)
        for column, scale in enumerate(self.scales):
            known = self.known[:, column] & self.counted
            true, said = (side[known, column] for side in (self.truth, self.answer))
            if scale.kind == "circular":
                ends = np.array([scale.period, 2 * scale.period]) / 3
                true, said = np.mod(true, scale.period), np.mod(said, scale.period)
            elif len(true):
                ends = np.quantile(true, [1 / 3, 2 / 3])
            pairs = 3 * np.searchsorted(ends, true, side="right") + np.searchsorted(ends, said, side="right")
            counts += np.bincount(pairs, minlength=9).reshape(3, 3)
        if len(self.classes) > 1:
            return Confusion(THIRDS, counts, "numbers")
        low, high = (worded(end, SAID) for end in ends)
        return Confusion((f"below {low}", f"{low} to {high}", f"{high} or more"), counts, "images")

    def class_table(self) -> Table:
        """Errors of each number in its own unit, and the share of its variance that is explained."""
        rows, explained = [], self.explained(self.counted[None].astype(np.float64))[0]
        for column, name in enumerate(self.classes):
            errors = self.errors[self.known[:, column] & self.counted, column]
            absolute, square = (values.mean() if len(errors) else np.nan for values in (np.abs(errors), errors**2))
            rows.append((name, len(errors), float(absolute), float(np.sqrt(square)), float(explained[column])))
        return Table(("class", "images", "mean_absolute_error", "root_mean_squared_error", "r2"), rows)

    def explained(self, weights: np.ndarray) -> np.ndarray:
        """The share of each number's variance that the answers explain (R2), as scikit-learn's `r2_score` has it.

        Of a circular number the distances from its mean direction take the place of those from its mean.

        Args:
            weights: of the images, float64 [R, N].

        Returns:
            float64 [R, T]; nan where what is true does not vary.
        """
        shares = np.full((len(weights), len(self.classes)), np.nan)
        for column, scale in enumerate(self.scales):
            known = self.known[:, column]
            some, true = weights[:, known], self.truth[known, column]
            if not len(true):
                continue
            if scale.kind == "circular":
                turns = np.einsum("rn,nc->rc", some, learnt(true[:, None], [scale]))
                middles = decoded(turns, [scale])
                around = distance(np.tile(true, (len(some), 1)), middles, [scale] * len(true))
                total = np.einsum("rn,rn->r", some, np.square(around))
            else:
                around = true - true.mean()  # near 0, so that the difference of two sums keeps its digits
                sums, whole = np.einsum("rn,n->r", some, around), np.maximum(some.sum(axis=1), SMALLEST)
                total = np.einsum("rn,n->r", some, around**2) - sums**2 / whole
            left = np.einsum("rn,n->r", some, np.square(self.errors[known, column]))
            varies = total > (ROUNDING * np.abs(true).max()) ** 2 * some.sum(axis=1)
            np.divide(total - left, total, out=shares[:, column], where=varies)
        return shares

    def curves(self) -> list[Curve]:
        """What is said over what is true, and how the errors lie, of the first few numbers."""
        return curves_of(self.classes, self.truth[self.counted], self.answer[self.counted], self.scales)


def in_words(names: Sequence[str], values: np.ndarray, digits: int = 6) -> str:
    """`price 869,500, rooms 4`: the known ones of the first few."""
    known = [(name, value) for name, value in zip(names, values.tolist(), strict=True) if np.isfinite(value)]
    told = ", ".join(f"{name} {worded(value, digits)}" for name, value in known[:NAMED])
    return told + (f" and {len(known) - NAMED} more" if len(known) > NAMED else "") if known else "unknown"
