"""Classification: one class per image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from pipeline.answering import Marks
from pipeline.answers.labels import LabelAnswers
from pipeline.contracts import AnnotationRules, Output, Settled, Target, TaskConfig, Views
from pipeline.errors import UserError
from pipeline.tasks._names import natural_order
from pipeline.tasks._views import mean_of_views, softmax

if TYPE_CHECKING:
    from torch import nn

    from pipeline.pooling import Pool

NAMED = 3
"""Classes that the words of an answer name."""


class Config(TaskConfig):
    """One class per image, learnt from its name."""

    learns: ClassVar[Target] = Target.LABEL
    reads: ClassVar[tuple[Target, ...]] = (Target.LABEL,)
    needs: ClassVar[tuple[Output, ...]] = (Output.VECTOR,)
    unit: ClassVar[str] = "images"
    fields: ClassVar[Mapping[str, str]] = {"label": "int64"}

    score: str = "accuracy"
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""
    unsure_below: float = Field(0.0, ge=0, le=1)
    """Pictures whose answer is less sure than this are looked at again, moved by a pixel, and the mean is told; 0 looks
    once, 1 always again."""
    unsure_mirrored: bool = True
    """Whether such pictures are looked at in a mirror too. Turn it off where left and right differ, as in writing."""

    def settle(self, annotation: str, width: int, height: int, rules: AnnotationRules) -> Settled:
        """A name is a name."""
        return Settled(annotation)

    def tally(self, annotation: str) -> dict[str, int]:
        """One image of its class."""
        return {annotation: 1}

    def classes(self, found: Iterable[str]) -> list[str]:
        """The distinct class names in natural order: `2` comes before `10`.

        Raises:
            UserError: fewer than two classes; there is nothing to tell apart.
        """
        ordered = natural_order(found)
        if len(ordered) < 2:
            names = repr(ordered[0]) if ordered else "none"
            raise UserError(
                f"Classification needs images of two classes or more; the source has {len(ordered)} ({names}). "
                "Add images of another class, or check that `data` names the folder above the classes."
            )
        return ordered

    def stratum(self, annotation: str) -> str:
        """The class: every split gets its share of each."""
        return annotation

    def columns(self, annotation: str, classes: Sequence[str]) -> dict[str, int]:
        """`label`: the position of the image's class in `classes`."""
        return {"label": classes.index(annotation)}

    def answering(self, network: nn.Module, info: Any) -> nn.Module:
        """With second looks, where any are asked for."""
        if not self.unsure_below:
            return network
        from pipeline.tasks._second_looks import SecondLooks

        return SecondLooks(network, self.unsure_below, self.unsure_mirrored)

    def pool(self, info: Any) -> Pool:
        """The mean of the probabilities."""
        from pipeline.pooling import softmaxes  # late: torch

        return softmaxes

    def told(self, outputs: np.ndarray, views: Views) -> list[np.ndarray]:
        """Probabilities float64 [K] of each image, rows that sum to 1: the mean over its views of the softmax."""
        return mean_of_views(softmax(outputs), views)

    def answers(self, split: Any, told: Sequence[np.ndarray]) -> LabelAnswers:
        """See `TaskConfig.answers`."""
        stacked = np.stack(told) if len(told) else np.zeros((0, len(split.classes)))
        return LabelAnswers(split.classes, split.labels, stacked)

    def blind(self, train: Any, split: Any) -> LabelAnswers:
        """The majority class for every image, as sure as its share of the training images."""
        shares = np.bincount(train.labels, minlength=len(train.classes)) / max(1, len(train))
        return LabelAnswers(split.classes, split.labels, np.tile(shares, (len(split), 1)))

    def marks(self, told: np.ndarray, classes: Sequence[str]) -> Marks:
        """The most probable classes, each with its probability."""
        best = np.argsort(-told, kind="stable")[:NAMED]
        return Marks(words=", ".join(f"{classes[k]} {told[k]:.1%}" for k in best), classes=classes)

    def plain(self, told: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
        """`label`, its `probability`, and the `probabilities` of all classes by name, the most probable first."""
        ranked = sorted(zip(classes, told.tolist(), strict=True), key=lambda pair: -pair[1])
        return {"label": ranked[0][0], "probability": ranked[0][1], "probabilities": dict(ranked)}

    def truth(self, row: Mapping[str, Any], mask: bytes | None, classes: Sequence[str]) -> Marks:
        """The class."""
        return Marks(words=classes[row["label"]], classes=classes)
