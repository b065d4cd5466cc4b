"""Object detection: a box and a class for every object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field

from pipeline import frames
from pipeline.annotations import Objects
from pipeline.answering import MarkedBox, Marks
from pipeline.answers.objects import ObjectAnswers
from pipeline.boxes import area, clip, common, meeting
from pipeline.contracts import AnnotationRules, Output, Settled, Target, TaskConfig, Views
from pipeline.tasks._boxes import settled
from pipeline.tasks._objects import SHOWN, blind_boxes, class_names, counted, in_words, surest
from pipeline.tasks._outlines import polygons

SAME = 0.6
"""Two boxes of one class that different tiles found are one object if they have this share of the smaller in common, or
of what either covers where both tiles look."""


class Config(TaskConfig):
    """Every object with its box and class; of a picture cut into tiles, each object once."""

    learns: ClassVar[Target] = Target.OBJECTS
    reads: ClassVar[tuple[Target, ...]] = (Target.OBJECTS,)
    needs: ClassVar[tuple[Output, ...]] = (Output.BOXES,)
    unit: ClassVar[str] = "objects"
    pools: ClassVar[bool] = False
    fields: ClassVar[Mapping[str, str]] = {"objects": "objects"}
    nothing: ClassVar[Objects] = Objects(())

    score: str = "map"
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""
    threshold: float | None = Field(None, ge=0, le=1)
    """Score from which boxes count in tables and are drawn; null: chosen on the validation split."""

    def settle(self, annotation: Objects, width: int, height: int, rules: AnnotationRules) -> Settled:
        """Boxes in pixels of the picture, those with flaws as the rules say."""
        return settled(annotation, width, height, rules)

    def tally(self, annotation: Objects) -> dict[str, int]:
        """Objects of each class; crowds are none."""
        return counted(annotation)

    def classes(self, found: Iterable[str]) -> list[str]:
        """The distinct class names in natural order.

        Raises:
            UserError: there is no object at all.
        """
        return class_names(found, "Object detection")

    def stratum(self, annotation: Objects) -> str:
        """One for all: a picture holds objects of many classes."""
        return ""

    def columns(self, annotation: Objects, classes: Sequence[str]) -> dict[str, Any]:
        """`objects`, in the order of the source; a crowd of a class that has no other object is nobody's."""
        places = {name: place for place, name in enumerate(classes)}
        things = [
            {
                "label": places[thing.name],
                **dict(zip(("x1", "y1", "x2", "y2"), map(float, thing.box), strict=True)),
                "crowd": thing.crowd,
                "outline": polygons(thing),
            }
            for thing in annotation.things
            if thing.name in places
        ]
        return {"objects": things}

    def told(self, outputs: np.ndarray, views: Views) -> list[np.ndarray]:
        """x1, y1, x2, y2, score, class id of each object of each image, by falling score: float64 [d, 6]."""
        found: list[list[np.ndarray]] = [[] for _ in views.sizes]
        seen: list[list[np.ndarray]] = [[] for _ in views.sizes]
        for image, region, rows in zip(views.images, views.regions, outputs.astype(np.float64), strict=True):
            real = rows[(rows[:, 4] > 0) & np.isfinite(rows).all(axis=1)]
            real[:, :4] = frames.boxes_back(real[:, :4], region, views.side)
            real[:, :4] = clip(real[:, :4], *views.sizes[image])
            found[image].append(real[area(real[:, :4]) > 0])
            seen[image].append(region)
        return [_joined(*of_image) for of_image in zip(found, seen, strict=True)]

    def answers(self, split: Any, told: Sequence[np.ndarray]) -> ObjectAnswers:
        """See `TaskConfig.answers`."""
        truth = [split.objects(position) for position in range(len(split))]
        return ObjectAnswers(split.classes, truth, list(told), split.sizes, self.threshold)

    @property
    def undecided(self) -> bool:
        """Unless a threshold is given."""
        return self.threshold is None

    def tuned(self, answers: ObjectAnswers) -> Self:
        """With the threshold at which F1 is highest, if none is given."""
        return self.model_copy(update={"threshold": answers.cut}) if self.undecided else self

    def blind(self, train: Any, split: Any) -> ObjectAnswers:
        """Boxes of the training pictures, evenly chosen, in every picture; each as sure as its class is frequent."""
        return self.answers(split, blind_boxes(train, split))

    def marks(self, told: np.ndarray, classes: Sequence[str]) -> Marks:
        """The boxes at the threshold; where none is known, those of which the model is half sure or more."""
        least = SHOWN if self.threshold is None else self.threshold
        boxes = [
            MarkedBox((x1, y1, x2, y2), classes[int(label)], score)
            for x1, y1, x2, y2, score, label in told.tolist()
            if score >= least
        ]
        return Marks(words=in_words([box.name for box in boxes]), boxes=boxes, classes=classes)

    def plain(self, told: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
        """`objects`: a list of label, score and box (x1, y1, x2, y2), the surest first."""
        rows = [{"label": classes[int(row[5])], "score": row[4], "box": row[:4]} for row in told.tolist()]
        return {"objects": rows}

    def truth(self, row: Mapping[str, Any], mask: bytes | None, classes: Sequence[str]) -> Marks:
        """The boxes that a person drew."""
        boxes = [
            MarkedBox((one["x1"], one["y1"], one["x2"], one["y2"]), classes[one["label"]], faint=one["crowd"])
            for one in row["objects"]
        ]
        words = in_words([box.name for box in boxes if not box.faint])
        return Marks(words=words, boxes=boxes, classes=classes)


def _joined(of_views: Sequence[np.ndarray], regions: Sequence[np.ndarray]) -> np.ndarray:
    """The objects of one picture, of two that different tiles found of one object the surer.

    Args:
        of_views: what each tile says, rows float64 [d, 6] in pixels of the picture.
        regions: of the tiles, float64 [4] each.
    """
    rows = np.concatenate(of_views) if of_views else np.zeros((0, 6))
    view = np.repeat(np.arange(len(of_views)), [len(one) for one in of_views])
    order = np.argsort(-rows[:, 4], kind="stable")
    rows, view = rows[order], view[order]
    if len(of_views) < 2:
        return rows
    boxes, seen = rows[:, :4], np.stack(regions)
    one, other = meeting(boxes, rows[:, 5].astype(np.int64), view)
    both = common(boxes[one], boxes[other])
    # Of what is larger than the margin of a tile each sees a part; where both look, the parts are the same.
    parts = common(boxes[one], seen[view[other]]), common(boxes[other], seen[view[one]])
    smaller = np.minimum(area(boxes[one]), area(boxes[other]))
    same = (both > SAME * smaller) | (both > SAME * (parts[0] + parts[1] - both))
    left: np.ndarray = rows[surest(len(rows), one[same], other[same])]
    return left
