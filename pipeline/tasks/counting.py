"""Counting: how many objects of each class are in an image, learnt from their number alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.annotations import Flaw, FlawKind, Objects
from pipeline.answering import Marks
from pipeline.answers.numbers import SAID, NumberAnswers, in_words
from pipeline.contracts import AnnotationRules, Output, Settled, Target, TaskConfig, Views
from pipeline.errors import UserError
from pipeline.numbers import of_numbers
from pipeline.tasks._boxes import settled
from pipeline.tasks._numbers import middle
from pipeline.tasks._objects import class_names, counted
from pipeline.tasks._views import mean_of_views

if TYPE_CHECKING:
    from torch import nn

    from pipeline.pooling import Pool


class Config(TaskConfig):
    """How many there are of each class, from boxes or from numbers; where they are is not learnt.

    A network of maps counts pixel by pixel and adds up, which takes fewer pictures to learn than a vector does.

    Many that are marked as one (a crowd) leave the number of that class open in that picture.
    """

    learns: ClassVar[Target] = Target.COUNTS
    reads: ClassVar[tuple[Target, ...]] = (Target.OBJECTS, Target.NUMBERS)
    needs: ClassVar[tuple[Output, ...]] = (Output.VECTOR, Output.MAP)
    unit: ClassVar[str] = "objects"
    fields: ClassVar[Mapping[str, str]] = {"numbers": "numbers"}
    nothing: ClassVar[Objects] = Objects(())

    score: str = "mean_absolute_error"
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""

    def settle(
        self, annotation: Objects | Mapping[str, float], width: int, height: int, rules: AnnotationRules
    ) -> Settled:
        """How many of each class: a number each, None where it is not known; of classes left out there are none."""
        if isinstance(annotation, Objects):
            return _counted(annotation, width, height, rules)
        for name, value in annotation.items():
            if math.isinf(value) or value < 0:
                found = f"{name} is {value:g}; expected a count, 0 or more"
                return Settled(None, ((Flaw(FlawKind.UNREADABLE, "", "", found), rules.unreadable),))
        return Settled({name: None if math.isnan(value) else float(value) for name, value in annotation.items()})

    def tally(self, annotation: Mapping[str, float | None]) -> dict[str, int]:
        """Objects of each class."""
        return {name: round(count) for name, count in annotation.items() if count}

    def classes(self, found: Iterable[str]) -> list[str]:
        """The distinct class names in natural order.

        Raises:
            UserError: there is no object at all.
        """
        return class_names(found, "Counting")

    def stratum(self, annotation: Mapping[str, float | None]) -> str:
        """One for all: a picture holds objects of many classes."""
        return ""

    def about(self, annotations: Sequence[Mapping[str, float | None]], classes: Sequence[str]) -> dict[str, Any]:
        """`scales`: mean and deviation of each count over the training pictures, where learning begins.

        Raises:
            UserError: a count is known of none of them.
        """
        scales = []
        for name in classes:
            known = [count for one in annotations if (count := one.get(name, 0.0)) is not None]
            if not known:
                raise UserError(f"No training picture tells how many {name!r} there are: nothing can be learnt of it.")
            scales.append(of_numbers(np.array(known, np.float64)))
        return {"scales": scales}

    def columns(self, annotation: Mapping[str, float | None], classes: Sequence[str]) -> dict[str, Any]:
        """`numbers`: how many of each class, in the order of `classes`; null where it is not known."""
        return {"numbers": [annotation.get(name, 0.0) for name in classes]}

    def answering(self, network: nn.Module, info: Any) -> nn.Module:
        """With what turns logarithms of rates into rates."""
        from pipeline.networks import Counting

        return Counting(network, [scale.mean for scale in info.scales])

    def pool(self, info: Any) -> Pool:
        """The mean of the expected counts."""
        from pipeline.pooling import values  # late: torch

        return values

    def told(self, outputs: np.ndarray, views: Views) -> list[np.ndarray]:
        """The expected counts of each image, float64 [K]: the mean over its views, each of which tells of all of it."""
        return mean_of_views(outputs.astype(np.float64), views)

    def answers(self, split: Any, told: Sequence[np.ndarray]) -> NumberAnswers:
        """See `TaskConfig.answers`."""
        said = np.array(told, np.float64).reshape(len(told), len(split.classes))
        return NumberAnswers(split.classes, split.numbers, said, split.dataset.info.scales, alike=True)

    def blind(self, train: Any, split: Any) -> NumberAnswers:
        """The median of the training images for every image."""
        return self.answers(split, [middle(train.numbers, split.dataset.info.scales)] * len(split))

    def marks(self, told: np.ndarray, classes: Sequence[str]) -> Marks:
        """The expected counts."""
        return Marks(words=in_words(classes, told, SAID), classes=classes)

    def plain(self, told: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
        """`counts`: the expected number of objects of each class."""
        return {"counts": dict(zip(classes, told.tolist(), strict=True))}

    def truth(self, row: Mapping[str, Any], mask: bytes | None, classes: Sequence[str]) -> Marks:
        """The known counts."""
        values = np.array([np.nan if value is None else value for value in row["numbers"]], np.float64)
        return Marks(words=in_words(classes, values), classes=classes)


def _counted(annotation: Objects, width: int, height: int, rules: AnnotationRules) -> Settled:
    """The objects of each class whose boxes are good, or are made so by the rules."""
    objects, problems = settled(annotation, width, height, rules)
    if objects is None:
        return Settled(None, problems)
    known: dict[str, float | None] = {name: float(count) for name, count in counted(objects).items()}
    return Settled(known | dict.fromkeys(thing.name for thing in objects.things if thing.crowd), problems)
