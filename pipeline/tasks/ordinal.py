"""Ordinal classification: one class per image, and the classes have an order; also how many objects there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import field_validator, model_validator

from pipeline.annotations import Objects
from pipeline.answering import Marks
from pipeline.answers.grades import GradeAnswers, marks, medians
from pipeline.contracts import AnnotationRules, Output, Settled, Target, TaskConfig, Views
from pipeline.errors import UserError, did_you_mean
from pipeline.tasks._boxes import settled
from pipeline.tasks._names import natural_order, once_each
from pipeline.tasks._views import mean_of_views, softmax

NUMBER = re.compile(r"[+-]?[0-9]{1,15}([.][0-9]{1,15})?")

if TYPE_CHECKING:
    from pipeline.pooling import Pool


class Config(TaskConfig):
    """The class of an image among ordered ones, learnt from its name, or from the number of objects in it."""

    learns: ClassVar[Target] = Target.GRADE
    reads: ClassVar[tuple[Target, ...]] = (Target.LABEL, Target.OBJECTS)
    needs: ClassVar[tuple[Output, ...]] = (Output.VECTOR,)
    unit: ClassVar[str] = "images"
    fields: ClassVar[Mapping[str, str]] = {"label": "int64"}

    score: str = "quadratic_kappa"
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""
    order: tuple[str, ...] = ()
    """The classes from the lowest to the highest, `[mild, moderate, severe]`; empty: numbers by their value, names in
    natural order."""
    counts: tuple[int, ...] = ()
    """Where ranges of the number of objects begin: `[10, 20]` makes the classes 0-9, 10-19 and 20+. For sources of
    objects, and needed there."""
    of: str = ""
    """The class whose objects are counted; empty: all are."""

    @field_validator("order")
    @classmethod
    def _once_each(cls, order: tuple[str, ...]) -> tuple[str, ...]:
        return once_each(order, "class")

    @field_validator("counts")
    @classmethod
    def _ascending(cls, counts: tuple[int, ...]) -> tuple[int, ...]:
        if any(after <= before for before, after in zip((0, *counts), counts, strict=False)):
            raise ValueError(f"expected ascending numbers above 0, as in [10, 20]; found {list(counts)}")
        return counts

    @model_validator(mode="after")
    def _one_order(self) -> Config:
        if self.counts and self.order:
            raise ValueError("order is of named classes, and counts has one of its own; leave one of them out")
        if self.of and not self.counts:
            raise ValueError("of says what is counted, but counts is empty; set it, as in [10, 20]")
        return self

    def settle(self, annotation: str | Objects, width: int, height: int, rules: AnnotationRules) -> Settled:
        """The name; of objects the range that their number lies in, without crowds and boxes that the rules drop.

        Raises:
            UserError: it is objects, and there are no ranges.
        """
        if isinstance(annotation, str):
            return Settled(annotation)
        if not self.counts:
            raise UserError(
                "params.yaml: task.counts: the source has objects, which ordinal classification counts. Set where the "
                "ranges begin, as in [10, 20] for the classes 0-9, 10-19 and 20+."
            )
        found, problems = settled(annotation, width, height, rules)
        if found is None:
            return Settled(None, problems)
        number = sum(not thing.crowd and self.of in ("", thing.name) for thing in found.things)
        return Settled(ranges(self.counts)[np.searchsorted(self.counts, number, side="right")], problems)

    def tally(self, annotation: str) -> dict[str, int]:
        """One image of its class."""
        return {annotation: 1}

    def classes(self, found: Iterable[str]) -> list[str]:
        """The distinct class names from the lowest to the highest.

        Raises:
            UserError: fewer than two classes, or some that `order` does not name.
        """
        names = set(found)
        order = self.order or ranges(self.counts) if self.order or self.counts else _by_value(names)
        if strange := natural_order(names - set(order)):
            hint = did_you_mean(strange[0], order)
            raise UserError(
                f"params.yaml: task.{'order' if self.order else 'counts'}: the source has the class {strange[0]!r}, "
                f"which is not among {', '.join(order[:12])}.{hint} Name every class."
            )
        if len(names) < 2:
            every = f"; every picture has {natural_order(names)[0]}" if names else ""
            counted = f" of {self.of!r}" if self.of else " of objects"
            what = f"task.counts: one range{counted} alone occurs{every}" if self.counts else f"{len(names)} of them"
            raise UserError(f"Ordinal classification needs images of two classes or more; {what}.")
        return [name for name in order if name in names]

    def stratum(self, annotation: str) -> str:
        """The class: every split gets its share of each."""
        return annotation

    def columns(self, annotation: str, classes: Sequence[str]) -> dict[str, int]:
        """`label`: the position of the image's class in `classes`."""
        return {"label": classes.index(annotation)}

    def pool(self, info: Any) -> Pool:
        """The mean of the probabilities."""
        from pipeline.pooling import softmaxes  # late: torch

        return softmaxes

    def told(self, outputs: np.ndarray, views: Views) -> list[np.ndarray]:
        """Probabilities float64 [K] of each image, rows that sum to 1: the mean over its views of the softmax."""
        return mean_of_views(softmax(outputs), views)

    def answers(self, split: Any, told: Sequence[np.ndarray]) -> GradeAnswers:
        """See `TaskConfig.answers`."""
        stacked = np.stack(told) if len(told) else np.zeros((0, len(split.classes)))
        return GradeAnswers(split.classes, split.labels, stacked)

    def blind(self, train: Any, split: Any) -> GradeAnswers:
        """The median of the training images for every image, as sure as the classes are frequent."""
        shares = np.bincount(train.labels, minlength=len(train.classes)) / max(1, len(train))
        return GradeAnswers(split.classes, split.labels, np.tile(shares, (len(split), 1)))

    def marks(self, told: np.ndarray, classes: Sequence[str]) -> Marks:
        """The median with its probability, and every class as a bar."""
        return marks(told, int(medians(told[None])[0]), classes, sure=True)

    def plain(self, told: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
        """`label`, its `probability`, its place `grade` from 0, and the `probabilities` of all, lowest first."""
        grade = int(medians(told[None])[0])
        shares = dict(zip(classes, told.tolist(), strict=True))
        return {"label": classes[grade], "probability": float(told[grade]), "grade": grade, "probabilities": shares}

    def truth(self, row: Mapping[str, Any], mask: bytes | None, classes: Sequence[str]) -> Marks:
        """The class."""
        return Marks(words=classes[row["label"]], classes=classes)


def ranges(counts: Sequence[int]) -> list[str]:
    """The names of the ranges that begin at 0 and at these numbers: `0-9`, `10-19`, `20+`."""
    starts = (0, *counts)
    bounded = zip(starts, counts, strict=False)
    return [*(str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in bounded), f"{starts[-1]}+"]


def _by_value(names: Iterable[str]) -> list[str]:
    """Numbers by their value, if all of them are; otherwise in natural order."""
    ordered = natural_order(names)
    return sorted(ordered, key=float) if all(map(NUMBER.fullmatch, ordered)) else ordered
