"""Instance segmentation: the class and the pixels of every object."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field

from pipeline import frames
from pipeline.annotations import Objects, Runs
from pipeline.answering import MarkedBox, Marks
from pipeline.answers.instances import InstanceAnswers
from pipeline.boxes import area, clip
from pipeline.contracts import AnnotationRules, Output, Settled, Target, TaskConfig, Views
from pipeline.runs import ellipse, pasted
from pipeline.tasks._instances import Told, joined, settled
from pipeline.tasks._objects import SHOWN, blind_boxes, class_names, counted, in_words


class Config(TaskConfig):
    """Every object with its pixels; of a picture cut into tiles, each object once. Objects may overlap."""

    learns: ClassVar[Target] = Target.INSTANCES
    reads: ClassVar[tuple[Target, ...]] = (Target.INSTANCES,)
    needs: ClassVar[tuple[Output, ...]] = (Output.INSTANCES,)
    unit: ClassVar[str] = "objects"
    pools: ClassVar[bool] = False
    fields: ClassVar[Mapping[str, str]] = {"objects": "instances"}
    nothing: ClassVar[Objects] = Objects(())

    score: str = "mask_map"
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""
    threshold: float | None = Field(None, ge=0, le=1)
    """Score from which objects count in tables and are drawn; null: chosen on the validation split."""

    def settle(self, annotation: Objects, width: int, height: int, rules: AnnotationRules) -> Settled:
        """Outlines as runs of the picture's size, boxes around them, those with flaws as the rules say."""
        return settled(annotation, width, height, rules)

    def tally(self, annotation: Objects) -> dict[str, int]:
        """Objects of each class; crowds are none."""
        return counted(annotation)

    def classes(self, found: Iterable[str]) -> list[str]:
        """The distinct class names in natural order.

        Raises:
            UserError: there is no object at all.
        """
        return class_names(found, "Instance segmentation")

    def stratum(self, annotation: Objects) -> str:
        """One for all: a picture holds objects of many classes."""
        return ""

    def columns(self, annotation: Objects, classes: Sequence[str]) -> dict[str, Any]:
        """`objects`, in the order of the source; a crowd of a class that has no other object is nobody's."""
        places = {name: place for place, name in enumerate(classes)}
        things = [
            {
                "label": places[thing.name],
                **dict(zip(("x1", "y1", "x2", "y2"), thing.box, strict=True)),
                "crowd": thing.crowd,
                "runs": thing.outline.lengths,
            }
            for thing in annotation.things
            if thing.name in places and isinstance(thing.outline, Runs)
        ]
        return {"objects": things}

    def told(self, outputs: np.ndarray, views: Views) -> list[Told]:
        """The objects of each image by falling score; those without pixels are none."""
        found: list[list[Told]] = [[] for _ in views.sizes]
        seen: list[list[np.ndarray]] = [[] for _ in views.sizes]
        for image, region, rows in zip(views.images, views.regions, outputs.astype(np.float64), strict=True):
            width, height = views.sizes[image].tolist()
            real = rows[(rows[:, 4] > 0) & np.isfinite(rows).all(axis=1)]
            real[:, :4] = frames.boxes_back(real[:, :4], region, views.side)
            found[image].append(_told(real, width, height))
            seen[image].append(region)
        return [joined(*of_image) for of_image in zip(found, seen, strict=True)]

    def answers(self, split: Any, told: Sequence[Told]) -> InstanceAnswers:
        """See `TaskConfig.answers`."""
        positions = range(len(split))
        truth = [split.objects(position) for position in positions], [split.runs(position) for position in positions]
        found = [one.rows for one in told], [one.runs for one in told]
        return InstanceAnswers(split.classes, truth, found, split.sizes, self.threshold)

    @property
    def undecided(self) -> bool:
        """Unless a threshold is given."""
        return self.threshold is None

    def tuned(self, answers: InstanceAnswers) -> Self:
        """With the threshold at which F1 is highest, if none is given."""
        return self.model_copy(update={"threshold": answers.cut}) if self.undecided else self

    def blind(self, train: Any, split: Any) -> InstanceAnswers:
        """Ellipses in boxes of the training pictures, in every picture; each as sure as its class is frequent."""
        drawn: dict[tuple[int, int], list[np.ndarray]] = {}
        told = []
        for rows, (width, height) in zip(blind_boxes(train, split), split.sizes.tolist(), strict=True):
            if (width, height) not in drawn:
                drawn[width, height] = [ellipse(box, width, height) for box in rows[:, :4].tolist()]
            told.append(Told(rows, drawn[width, height], (width, height)))
        return self.answers(split, told)

    def marks(self, told: Told, classes: Sequence[str]) -> Marks:
        """The objects at the threshold; where none is known, those of which the model is half sure or more."""
        least = SHOWN if self.threshold is None else self.threshold
        width, height = told.size
        boxes = [
            MarkedBox((x1, y1, x2, y2), classes[int(label)], score, inside=Runs(height, width, tuple(runs.tolist())))
            for (x1, y1, x2, y2, score, label), runs in zip(told.rows.tolist(), told.runs, strict=True)
            if score >= least
        ]
        return Marks(words=in_words([box.name for box in boxes]), boxes=boxes, classes=classes)

    def plain(self, told: Told, classes: Sequence[str]) -> dict[str, Any]:
        """`objects`: a list of label, score, box (x1, y1, x2, y2) and COCO's runs, the surest first."""
        size = [told.size[1], told.size[0]]
        rows = [
            {
                "label": classes[int(row[5])],
                "score": row[4],
                "box": row[:4],
                "runs": {"size": size, "counts": runs.tolist()},
            }
            for row, runs in zip(told.rows.tolist(), told.runs, strict=True)
        ]
        return {"objects": rows}

    def truth(self, row: Mapping[str, Any], mask: bytes | None, classes: Sequence[str]) -> Marks:
        """The objects that a person drew."""
        boxes = [
            MarkedBox(
                (one["x1"], one["y1"], one["x2"], one["y2"]),
                classes[one["label"]],
                faint=one["crowd"],
                inside=Runs(row["height"], row["width"], tuple(one["runs"])) if "runs" in one else None,
            )
            for one in row["objects"]
        ]
        words = in_words([box.name for box in boxes if not box.faint])
        return Marks(words=words, boxes=boxes, classes=classes)


def _told(rows: np.ndarray, width: int, height: int) -> Told:
    """Of rows of `Output.INSTANCES` with boxes in the picture, those that have pixels in it."""
    cells = math.isqrt(rows.shape[1] - 6)
    boxes = clip(rows[:, :4], width, height)
    rows, boxes = rows[area(boxes) > 0], boxes[area(boxes) > 0]
    small = rows[:, 6:].reshape(-1, cells, cells)
    runs = [pasted(shares, box, width, height) for shares, box in zip(small, rows[:, :4].tolist(), strict=True)]
    seen = np.array([len(lengths) > 1 for lengths in runs], bool)
    told = np.column_stack([boxes, rows[:, 4:6]])[seen]
    return Told(told, [lengths for lengths in runs if len(lengths) > 1], (width, height))
