"""Face recognition: a direction in space for each picture, near to that of other pictures of the same person.

The people of validation and test are never learnt from: what is scored is whether strangers are told apart, as in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field

from pipeline.answering import Marks
from pipeline.answers._likeness import unit
from pipeline.answers.identities import IdentityAnswers
from pipeline.contracts import AnnotationRules, Output, Settled, Target, TaskConfig, Views
from pipeline.errors import UserError
from pipeline.tasks._names import natural_order
from pipeline.tasks._views import mean_of_views

SHOWN = 4
"""Numbers of an embedding that its words name."""

if TYPE_CHECKING:
    from pipeline.pooling import Pool


class Config(TaskConfig):
    """Who is shown, learnt from the name of a person for each picture, of crops of faces alike.

    By default the area under the ROC curve of all pairs decides. It uses every two pictures, so that it still tells
    good networks apart where, among few people, nearly every nearest picture is the right one; and unlike rank 1 it
    does not fall by itself when people are added.
    """

    learns: ClassVar[Target] = Target.IDENTITY
    reads: ClassVar[tuple[Target, ...]] = (Target.LABEL,)
    needs: ClassVar[tuple[Output, ...]] = (Output.EMBEDDING,)
    alike: ClassVar[bool] = True
    unit: ClassVar[str] = "images"
    fields: ClassVar[Mapping[str, str]] = {"label": "int64"}

    score: str = "verification_auc"
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""
    embedding: int = Field(128, ge=2, le=4096)
    """E: numbers that are told of a picture."""
    threshold: float | None = Field(None, ge=0, le=2)
    """Two pictures nearer than this are taken for one person: 1 minus the cosine of the angle between their embeddings;
    0 takes nobody for anybody. null: it is chosen on the pictures of validation."""
    false_accepts: float | None = Field(None, gt=0, lt=1)
    """The share of pairs of two people that the chosen threshold may take for one; null: as many as there are pairs of
    one person that it takes for two. Of a threshold that is given it changes nothing."""

    def settle(self, annotation: str, width: int, height: int, rules: AnnotationRules) -> Settled:
        """A name is a name."""
        return Settled(annotation)

    def tally(self, annotation: str) -> dict[str, int]:
        """One image of its person."""
        return {annotation: 1}

    def classes(self, found: Iterable[str]) -> list[str]:
        """The people in natural order: `s2` comes before `s10`.

        Raises:
            UserError: fewer than two people; there is nobody to tell apart.
        """
        ordered = natural_order(found)
        if len(ordered) < 2:
            names = repr(ordered[0]) if ordered else "none"
            raise UserError(
                f"Face recognition needs pictures of two people or more; the source has {len(ordered)} ({names}). "
                "Add pictures of others, or check that `data` names the folder above those of the people."
            )
        return ordered

    def stratum(self, annotation: str) -> str:
        """One for all: no person is in two splits."""
        return ""

    def group(self, annotation: str, group: str | None) -> str:
        """The person: splits are drawn of whole people."""
        return annotation

    def joined(self, annotations: Sequence[str]) -> str | None:
        """The name that all agree on."""
        return annotations[0] if len(set(annotations)) == 1 else None

    def columns(self, annotation: str, classes: Sequence[str]) -> dict[str, int]:
        """`label`: the position of the person in `classes`."""
        return {"label": classes.index(annotation)}

    def outputs(self, info: Any, gives: Output) -> int:
        """E, however many people there are."""
        return self.embedding

    def pool(self, info: Any) -> Pool:
        """All embeddings beside each other: cosines of several networks have a mean, their directions none."""
        from pipeline.pooling import directions  # late: torch

        return directions

    @property
    def undecided(self) -> bool:
        """Unless a threshold is given."""
        return self.threshold is None

    def tuned(self, answers: IdentityAnswers) -> Self:
        """With the threshold that fits these answers, unless it is given."""
        if not self.undecided:
            return self
        return self.model_copy(update={"threshold": answers.chosen(self.false_accepts)})

    def told(self, outputs: np.ndarray, views: Views) -> list[np.ndarray]:
        """Embeddings float64 [E] of length 1 of each image: the mean over its views, each at length 1 before."""
        return [unit(mean) for mean in mean_of_views(unit(outputs), views)]

    def answers(self, split: Any, told: Sequence[np.ndarray]) -> IdentityAnswers:
        """See `TaskConfig.answers`."""
        stacked = np.stack(told) if len(told) else np.zeros((0, self.embedding))
        return IdentityAnswers(split.classes, split.labels, stacked, self.threshold)

    def blind(self, train: Any, split: Any) -> IdentityAnswers:
        """The same direction for every image."""
        constant = np.zeros((len(split), self.embedding))
        constant[:, 0] = 1
        return IdentityAnswers(split.classes, split.labels, constant, self.threshold)

    def marks(self, told: np.ndarray, classes: Sequence[str]) -> Marks:
        """The first numbers: who it is, only a comparison says (`convoy faces`)."""
        first = ", ".join(f"{number:+.3f}" for number in told[:SHOWN])
        return Marks(words=f"a face as {len(told)} numbers: {first}, ...", classes=classes)

    def plain(self, told: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
        """`embedding`: all numbers, their squares add up to 1."""
        return {"embedding": told.tolist()}

    def truth(self, row: Mapping[str, Any], mask: bytes | None, classes: Sequence[str]) -> Marks:
        """The person."""
        return Marks(words=classes[row["label"]], classes=classes)
