"""Multi-label classification: any number of classes per image, none among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from pipeline.annotations import Objects
from pipeline.answering import Marks
from pipeline.answers.label_sets import UNSURE, LabelSetAnswers, in_words, marks
from pipeline.contracts import AnnotationRules, Output, Settled, Target, TaskConfig, Views
from pipeline.errors import UserError, did_you_mean
from pipeline.tasks._names import natural_order
from pipeline.tasks._views import mean_of_views, sigmoid

Threshold = Annotated[float, Field(ge=0, le=1)]

if TYPE_CHECKING:
    from pipeline.pooling import Pool


class Config(TaskConfig):
    """The classes that an image is of, learnt from their names, from its only class, or from the objects in it."""

    learns: ClassVar[Target] = Target.LABELS
    reads: ClassVar[tuple[Target, ...]] = (Target.LABELS, Target.LABEL, Target.OBJECTS)
    needs: ClassVar[tuple[Output, ...]] = (Output.VECTOR,)
    unit: ClassVar[str] = "images"
    fields: ClassVar[Mapping[str, str]] = {"labels": "labels"}
    nothing: ClassVar[frozenset[str]] = frozenset()

    score: str = "mean_average_precision"
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""
    thresholds: dict[str, Threshold] | None = None
    """By class, the probability from which on it is said; a class that is not named: the one with the best F1 on the
    validation images, chosen when the training ends, and 0.5 until then. Classes that fewer than 5 of these are of have
    one together."""

    def settle(
        self, annotation: frozenset[str] | str | Objects, width: int, height: int, rules: AnnotationRules
    ) -> Settled:
        """The set of names: of objects those of their classes, also of crowds, whatever is wrong with their boxes."""
        if isinstance(annotation, str):
            return Settled(frozenset({annotation}))
        if isinstance(annotation, Objects):
            return Settled(frozenset(thing.name for thing in annotation.things))
        return Settled(frozenset(annotation))

    def tally(self, annotation: frozenset[str]) -> dict[str, int]:
        """One image of each of its classes."""
        return dict.fromkeys(sorted(annotation), 1)

    def classes(self, found: Iterable[str]) -> list[str]:
        """The distinct class names in natural order: `2` comes before `10`.

        Raises:
            UserError: there are none, or a threshold is for a class that is none of them.
        """
        ordered = natural_order(found)
        if not ordered:
            raise UserError("Multi-label classification needs classes; the source names none in any usable picture.")
        for name in self.thresholds or ():
            if name not in ordered:
                hint = did_you_mean(name, ordered) or f" The source has: {', '.join(ordered[:12])}."
                raise UserError(f"params.yaml: task.thresholds: no class is named {name!r}.{hint}")
        return ordered

    def stratum(self, annotation: frozenset[str]) -> str:
        """One for all: a picture is of many classes."""
        return ""

    def joined(self, annotations: Sequence[frozenset[str]]) -> frozenset[str]:
        """What any of them says: one file lies among the dogs, the other among the cats."""
        return frozenset[str]().union(*annotations)

    def columns(self, annotation: frozenset[str], classes: Sequence[str]) -> dict[str, list[int]]:
        """`labels`: the positions of the image's classes in `classes`, ascending."""
        return {"labels": [place for place, name in enumerate(classes) if name in annotation]}

    def pool(self, info: Any) -> Pool:
        """The mean of the probabilities, class by class."""
        from pipeline.pooling import sigmoids  # late: torch

        return sigmoids

    @property
    def undecided(self) -> bool:
        """Always: a class may have no threshold."""
        return True

    def tuned(self, answers: LabelSetAnswers) -> Config:
        """With the threshold of the best F1 for each class that has none."""
        chosen = dict(zip(answers.classes, answers.best_thresholds().tolist(), strict=True))
        return self.model_copy(update={"thresholds": {**chosen, **(self.thresholds or {})}})

    def told(self, outputs: np.ndarray, views: Views) -> list[np.ndarray]:
        """Probabilities float64 [K] of each image: the mean over its views of the sigmoid."""
        return mean_of_views(sigmoid(outputs), views)

    def answers(self, split: Any, told: Sequence[np.ndarray]) -> LabelSetAnswers:
        """See `TaskConfig.answers`."""
        stacked = np.stack(told) if len(told) else np.zeros((0, len(split.classes)))
        return LabelSetAnswers(split.classes, split.label_sets, stacked, self._cuts(split.classes))

    def blind(self, train: Any, split: Any) -> LabelSetAnswers:
        """The same for every image: the share of the training images that are of each class.

        Like a network it is tuned, to the training images: a class that some of them are of is said of every image,
        unless a threshold is given, for that makes its F1 the highest.
        """
        shares = train.label_sets.mean(axis=0) if len(train) else np.zeros(len(train.classes))
        known = self.answers(train, list(np.tile(shares, (len(train), 1))))
        return self.tuned(known).answers(split, list(np.tile(shares, (len(split), 1))))

    def marks(self, told: np.ndarray, classes: Sequence[str]) -> Marks:
        """The classes that are said, and the most probable ones as bars."""
        return marks(told, told >= self._cuts(classes), classes)

    def plain(self, told: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
        """`labels` that are said, and the `probabilities` of all classes by name, the most probable first."""
        ranked = sorted(zip(classes, told.tolist(), strict=True), key=lambda pair: -pair[1])
        chosen = np.flatnonzero(told >= self._cuts(classes)).tolist()
        return {"labels": [classes[k] for k in chosen], "probabilities": dict(ranked)}

    def truth(self, row: Mapping[str, Any], mask: bytes | None, classes: Sequence[str]) -> Marks:
        """The classes."""
        members = np.isin(np.arange(len(classes)), row["labels"])
        return Marks(words=in_words(members, classes), classes=classes)

    def _cuts(self, classes: Sequence[str]) -> np.ndarray:
        """The threshold of each class, float64 [K]."""
        known = self.thresholds or {}
        return np.array([known.get(name, UNSURE) for name in classes], np.float64)
