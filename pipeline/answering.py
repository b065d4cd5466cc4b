"""What a model said of N images beside what is true, in the terms that every task shares.

Stages, metrics and the gate know `Answers` alone. How a class is told, a box found or a pixel named is the business of
the kinds in `pipeline/answers/`, one per `contracts.Target`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from pipeline.annotations import Runs

if TYPE_CHECKING:
    import numpy as np

Cell = str | int | float
"""Of a table. A float is a share or a score, shown to three decimals; nan is undefined."""


class MarkedBox(NamedTuple):
    """One box to be drawn on a picture."""

    box: tuple[float, float, float, float]
    """As `pipeline.boxes` has it, in pixels of the whole picture."""
    name: str
    """Of its class."""
    score: float | None = None
    """How sure the model is; None where a person said it."""
    faint: bool = False
    """A crowd, or too hard: drawn, and counted for nothing."""
    inside: Runs | None = None
    """Which pixels of the picture it is, where that is known."""


class MarkedPoint(NamedTuple):
    """One point to be drawn on a picture, in pixels of the whole picture."""

    x: float
    y: float
    name: str


@dataclass(frozen=True)
class Marks:
    """What is to be shown on a picture, or beside it: the truth, or an answer."""

    words: str
    """In a line: `cat`, `12 RBC, 1 WBC`, `road 41%, sky 22%`."""
    boxes: Sequence[MarkedBox] = ()
    mask: np.ndarray | None = None
    """Class ids, uint8 [H, W] as large as the picture, 255 where nothing is said."""
    classes: Sequence[str] = ()
    """Names of all classes: a class has the colour of its place among them, everywhere."""
    points: Sequence[MarkedPoint] = ()
    bars: Sequence[tuple[str, float]] = ()
    """Names and shares in 0..1 of them, to be shown as bars beside the picture."""
    beside: int | None = None
    """Position, in the same split, of another image to be looked at beside this one: a face that it is taken for."""


class Confusion(NamedTuple):
    """What was taken for what; without names where that is no question."""

    names: Sequence[str]
    """Of rows and columns alike; a task may add one, such as `background`, to its classes."""
    counts: np.ndarray
    """int64 [names, names]: true in rows, said in columns."""
    unit: str
    """What is counted, in the plural: `images`, `objects`, `pixels`."""


class Table(NamedTuple):
    """A table of the report, and a CSV file beside it."""

    header: Sequence[str]
    """In lower case, as `classes.csv` has it: `class`, `images`, `precision`."""
    rows: Sequence[Sequence[Cell]]


class Span(NamedTuple):
    """What 0 and 1 of an axis stand for."""

    low: float = 0
    high: float = 1
    log: bool = False
    """Whether equal shares of the axis are equal factors; then both are above 0."""

    def value(self, share: float) -> float:
        """What a share of the axis stands for."""
        if self.log:
            return float(self.low * (self.high / self.low) ** share)
        return self.low + share * (self.high - self.low)

    def share(self, value: float) -> float:
        """Where a value lies on the axis."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


class Curve(NamedTuple):
    """A curve, or the bars of a histogram; places on both axes are shares of them, in 0..1."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]]
    """Each a name and its points."""
    summary: str
    """What it shows in words, for whoever cannot see it."""
    ideal: Sequence[tuple[float, float]] = ()
    """A line to compare with: chance, or perfection."""
    ideal_name: str = ""
    sizes: Sequence[int] = ()
    """If not empty, the only series is drawn as bars, wider for more images: so many behind each of its points."""
    x_span: Span = Span()
    y_span: Span = Span()


class Answers(ABC):
    """What a model said of N images of K classes, beside what is true.

    Every number is in double precision, and a function of the answers alone: asked twice, it is the same.
    """

    classes: Sequence[str]
    tolerance: ClassVar[float] = 1e-5
    """What two answers of one model may differ by, where only the size of the batch was another."""

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    @property
    @abstractmethod
    def quality(self) -> np.ndarray:
        """How well each image is answered, float64 [N] in 0..1: of a class 0 or 1, of objects or pixels a share."""

    @property
    @abstractmethod
    def by_class(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether each image holds each class, bool [N, K], and how well that class is answered in it, float64 [N, K].

        What is said of the second where the first is False counts for nothing.
        """

    @property
    @abstractmethod
    def losses(self) -> np.ndarray:
        """How bad each answer is, float64 [N], finite: images are shown in this order, the largest first."""

    @property
    @abstractmethod
    def confidence(self) -> np.ndarray:
        """How sure each answer is, float64 [N] in 0..1."""

    @abstractmethod
    def said(self, position: int) -> Marks:
        """What the model says of one image."""

    @abstractmethod
    def true(self, position: int) -> Marks:
        """What is true of it."""

    @abstractmethod
    def columns(self) -> dict[str, Any]:
        """What was said, as pyarrow arrays of N rows: columns of `predictions.parquet`, read by `again`."""

    @abstractmethod
    def again(self, table: Any) -> Self:
        """The same images and truth with what a table of such `columns` says of them, row by row.

        Raises:
            ValueError: the table is of another kind or of other classes.
        """

    @abstractmethod
    def at(self, positions: Sequence[int] | np.ndarray) -> Self:
        """The answers to some of the images."""

    @abstractmethod
    def difference(self, other: Self) -> np.ndarray:
        """How far two answers to each image lie apart, float64 [N]: 0 where they are the same, nan where one is nan.

        Of probabilities the largest difference; of objects likewise, a box that only one has counting its score; of
        masks the share of pixels.
        """

    @abstractmethod
    def confusion(self) -> Confusion:
        """What is taken for what."""

    @abstractmethod
    def class_table(self) -> Table:
        """How each class fares, K rows in the order of the classes; the first column is `class`, the last one the score
        by which the report sorts."""

    @abstractmethod
    def curves(self) -> list[Curve]:
        """What the report draws."""

    @property
    def counted(self) -> np.ndarray:
        """Which images tell of a model by themselves, bool [N]: all, but of those that share one answer the first."""
        import numpy as np

        return np.ones(len(self), bool)

    @property
    def graded(self) -> bool:
        """Whether an image can be answered in part; else each quality is 0 or 1, and their mean is the accuracy."""
        return bool(((self.quality != 0) & (self.quality != 1)).any())

    def worst(self, count: int) -> list[int]:
        """The positions of at most `count` images that count and are not answered perfectly, the highest loss first."""
        import numpy as np

        order = np.lexsort((np.arange(len(self)), -self.losses))
        positions: list[int] = order[(self.quality < 1)[order] & self.counted[order]][:count].tolist()
        return positions
