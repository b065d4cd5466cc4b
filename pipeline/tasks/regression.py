"""Regression: one or more numbers per image, such as a price, an age or an angle."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator, model_validator

from pipeline.annotations import Flaw, FlawKind
from pipeline.answering import Marks
from pipeline.answers.numbers import SAID, NumberAnswers, in_words
from pipeline.contracts import AnnotationRules, Output, Settled, Target, TaskConfig, Views
from pipeline.errors import UserError, did_you_mean
from pipeline.numbers import Scale, of_numbers
from pipeline.tasks._names import natural_order, once_each
from pipeline.tasks._numbers import mean, middle, of_images, places

if TYPE_CHECKING:
    from torch import nn

    from pipeline.pooling import Pool


class Config(TaskConfig):
    """Numbers of each image; what is not known of one costs nothing and counts for nothing."""

    learns: ClassVar[Target] = Target.NUMBERS
    reads: ClassVar[tuple[Target, ...]] = (Target.NUMBERS,)
    needs: ClassVar[tuple[Output, ...]] = (Output.VECTOR,)
    unit: ClassVar[str] = "images"
    fields: ClassVar[Mapping[str, str]] = {"numbers": "numbers"}

    score: str = "mean_absolute_error"
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""
    numbers: tuple[str, ...] = ()
    """Those to be learnt, in this order; empty: all that the source gives, in natural order."""
    log: tuple[str, ...] = ()
    """Those that are learnt as logarithms, so that being wrong by a tenth costs as much at any size: prices, areas."""
    circular: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """Those that begin again after a period, each with it: `{angle: 360, hour: 24}`."""
    together: bool = False
    """Whether the images of a group get one answer, the mean of all of theirs, as it is learnt: of the four pictures of
    a house one price. They count once."""

    @property
    def grouped(self) -> bool:
        """Whether they share an answer."""
        return self.together

    @field_validator("numbers")
    @classmethod
    def _once_each(cls, numbers: tuple[str, ...]) -> tuple[str, ...]:
        return once_each(numbers, "number")

    @model_validator(mode="after")
    def _are_apart(self) -> Config:
        if both := sorted({*self.log} & {*self.circular}):
            raise ValueError(f"{both[0]!r} is in log and in circular; a number is learnt in one way")
        return self

    def settle(self, annotation: Mapping[str, float], width: int, height: int, rules: AnnotationRules) -> Settled:
        """The numbers that are known, of those that are to be learnt."""
        known = {
            name: float(value)
            for name, value in annotation.items()
            if (not self.numbers or name in self.numbers) and not math.isnan(value)
        }
        for name, value in known.items():
            found = ""
            if not math.isfinite(value):
                found = f"{name} is {value:g}; expected a finite number"
            elif name in self.log and value <= 0:
                found = f"{name} is {value:g}, which has no logarithm (task.log); expected a number above 0"
            if found:
                return Settled(None, ((Flaw(FlawKind.UNREADABLE, "", "", found), rules.unreadable),))
        if not known:
            flaw = Flaw(FlawKind.NO_ANNOTATION, "", "", "none of its numbers is known")
            return Settled(None, ((flaw, "stop" if rules.no_annotation == "stop" else "reject"),))
        return Settled(known)

    def tally(self, annotation: Mapping[str, float]) -> dict[str, int]:
        """One image of each number that is known."""
        return dict.fromkeys(annotation, 1)

    def classes(self, found: Iterable[str]) -> list[str]:
        """The names of the numbers.

        Raises:
            UserError: there are none, or an option names one that the source does not give.
        """
        names = natural_order(found)
        for option, wanted in (("numbers", self.numbers), ("log", self.log), ("circular", tuple(self.circular))):
            for name in wanted:
                if name not in names:
                    hint = did_you_mean(name, names) or f" It gives: {', '.join(names[:12]) or 'none'}."
                    raise UserError(f"params.yaml: task.{option}: the source gives no number {name!r}.{hint}")
        if not names:
            raise UserError("Regression needs numbers; the source gives none of any usable picture.")
        return list(self.numbers) or names

    def stratum(self, annotation: Mapping[str, float]) -> str:
        """One for all: a number is no class."""
        return ""

    def joined(self, annotations: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
        """Every number that one of them knows, if no two contradict each other."""
        whole: dict[str, float] = {}
        for annotation in annotations:
            if any(whole.get(name, value) != value for name, value in annotation.items()):
                return None
            whole |= annotation
        return whole

    def about(self, annotations: Sequence[Mapping[str, float]], classes: Sequence[str]) -> dict[str, Any]:
        """`scales`: how each number is learnt, by what it is in the training pictures.

        Raises:
            UserError: a number is known of none of them.
        """
        scales = []
        for name in classes:
            values = np.array([one[name] for one in annotations if name in one], np.float64)
            if not len(values):
                raise UserError(f"No training picture has the number {name!r}: there is nothing to learn it from.")
            (way,) = self._kinds([name])
            scales.append(of_numbers(values, way.kind, way.period))
        return {"scales": scales}

    def columns(self, annotation: Mapping[str, float], classes: Sequence[str]) -> dict[str, Any]:
        """`numbers`: in the order of `classes`; null where one is not known."""
        return {"numbers": [annotation.get(name) for name in classes]}

    def outputs(self, info: Any, gives: Output) -> int:
        """A column for each number, two of a circular one."""
        return sum(scale.columns for scale in info.scales)

    def answering(self, network: nn.Module, info: Any) -> nn.Module:
        """With what turns columns as they are learnt into numbers in their own units."""
        from pipeline.networks import Measuring

        return Measuring(network, info.scales)

    def pool(self, info: Any) -> Pool:
        """The mean of each number; of one that begins again after a period the mean direction."""
        from pipeline.pooling import numbers  # late: torch

        return functools.partial(numbers, scales=info.scales)

    def told(self, outputs: np.ndarray, views: Views) -> list[np.ndarray]:
        """The numbers of each view of each image, float64 [v, T]."""
        return of_images(outputs, views)

    def answers(self, split: Any, told: Sequence[np.ndarray]) -> NumberAnswers:
        """See `TaskConfig.answers`."""
        scales = split.dataset.info.scales
        said = np.array([mean(one, scales) for one in told], np.float64).reshape(len(told), len(scales))
        groups = places(split.groups) if self.together else None
        return NumberAnswers(split.classes, split.numbers, said, scales, groups=groups)

    def blind(self, train: Any, split: Any) -> NumberAnswers:
        """The median of the training images for every image; round a circle their mean direction."""
        return self.answers(split, [middle(train.numbers, split.dataset.info.scales)[None]] * len(split))

    def marks(self, told: np.ndarray, classes: Sequence[str]) -> Marks:
        """The numbers."""
        return Marks(words=in_words(classes, mean(told, self._kinds(classes)), SAID), classes=classes)

    def plain(self, told: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
        """`numbers`: each by its name."""
        return {"numbers": dict(zip(classes, mean(told, self._kinds(classes)).tolist(), strict=True))}

    def truth(self, row: Mapping[str, Any], mask: bytes | None, classes: Sequence[str]) -> Marks:
        """The known numbers."""
        values = np.array([np.nan if value is None else value for value in row["numbers"]], np.float64)
        return Marks(words=in_words(classes, values), classes=classes)

    def _kinds(self, names: Sequence[str]) -> list[Scale]:
        """How numbers of these names are learnt, but for what only their training pictures tell."""
        logarithmic = {name: Scale(kind="log") for name in self.log}
        periodic = {name: Scale(kind="circular", period=period) for name, period in self.circular.items()}
        return [{**logarithmic, **periodic}.get(name, Scale()) for name in names]
