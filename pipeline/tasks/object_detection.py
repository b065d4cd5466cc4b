"""Object detection: a box and a class for every object."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from pipeline import frames
from pipeline.annotations import Corners, Flaw, FlawKind, Objects, Thing
from pipeline.answering import MarkedBox, Marks
from pipeline.answers.objects import ObjectAnswers
from pipeline.boxes import SLACK, area, clip, intersection
from pipeline.contracts import AnnotationRules, Output, Settled, Target, TaskConfig, Views
from pipeline.errors import UserError
from pipeline.tasks._names import natural_order
from pipeline.tasks._outlines import pixels, polygons

SAME = 0.6
"""Of two boxes of one class that different tiles found, the share of the smaller with which they are one object."""
BLIND = 100
"""Boxes that a model which never looks puts into each picture."""


class Config(TaskConfig):
    """Every object with its box and class; of a picture cut into tiles, each object once."""

    learns: ClassVar[Target] = Target.OBJECTS
    reads: ClassVar[tuple[Target, ...]] = (Target.OBJECTS,)
    needs: ClassVar[tuple[Output, ...]] = (Output.BOXES,)
    unit: ClassVar[str] = "objects"
    fields: ClassVar[Mapping[str, str]] = {"objects": "objects"}
    nothing: ClassVar[Objects] = Objects(())

    score: str = "map"
    """The metric that decides, of `pipeline/metrics/`: on the epoch to keep and on the gate's verdict."""

    def settle(self, annotation: Objects, width: int, height: int, rules: AnnotationRules) -> Settled:
        """Boxes in pixels of the picture, those with flaws as the rules say."""
        settled = pixels(annotation, width, height)
        problems: list[tuple[Flaw, str]] = []
        if annotation.said_size and annotation.said_size != (width, height):
            said = "{} x {}".format(*annotation.said_size)
            flaw = Flaw(
                FlawKind.OTHER_SIZE, annotation.source, "", f"it says {said}; the picture is {width} x {height}"
            )
            problems.append((flaw, rules.other_size))
        things = []
        for thing in settled.things:
            flaw_, done, box = _judged(thing, settled.source, (width, height), rules)
            if flaw_:
                problems.append((flaw_, done))
            if box:
                things.append(replace(thing, box=box))
        left_out = any(done == "reject" for _, done in problems)
        return Settled(None if left_out else replace(settled, things=tuple(things)), tuple(problems))

    def tally(self, annotation: Objects) -> dict[str, int]:
        """Objects of each class; crowds are none."""
        return dict(Counter(thing.name for thing in annotation.things if not thing.crowd))

    def classes(self, found: Iterable[str]) -> list[str]:
        """The distinct class names in natural order.

        Raises:
            UserError: there is no object at all.
        """
        ordered = natural_order(found)
        if not ordered:
            raise UserError("Object detection needs objects; the source names none in any usable picture.")
        return ordered

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
        for image, region, rows in zip(views.images, views.regions, outputs.astype(np.float64), strict=True):
            real = rows[(rows[:, 4] > 0) & np.isfinite(rows).all(axis=1)]
            real[:, :4] = frames.boxes_back(real[:, :4], region, views.side)
            real[:, :4] = clip(real[:, :4], *views.sizes[image])
            found[image].append(real[area(real[:, :4]) > 0])
        return [_joined(of_image) for of_image in found]

    def answers(self, split: Any, told: Sequence[np.ndarray]) -> ObjectAnswers:
        """See `TaskConfig.answers`."""
        truth = [split.objects(position) for position in range(len(split))]
        return ObjectAnswers(split.classes, truth, list(told), split.sizes)

    def blind(self, train: Any, split: Any) -> ObjectAnswers:
        """Boxes of the training pictures, evenly chosen, in every picture; each as sure as its class is frequent."""
        known = [(train.objects(position), train.sizes[position]) for position in range(len(train))]
        known = [(rows[rows[:, 5] == 0], size) for rows, size in known]  # a crowd is no object
        shares = np.concatenate(
            [rows[:, :4] / np.tile(size, 2) for rows, size in known if len(rows)] or [np.zeros((0, 4))]
        )
        labels = np.concatenate([rows[:, 4] for rows, _ in known if len(rows)] or [np.zeros(0)]).astype(np.int64)
        order = np.lexsort((shares[:, 0], shares[:, 1], area(shares), labels))
        chosen = order[np.unique(np.linspace(0, len(order) - 1, min(BLIND, len(order))).astype(np.int64))]
        scores = np.bincount(labels, minlength=len(train.classes))[labels[chosen]] / max(1, len(labels))
        rows = np.column_stack([shares[chosen], scores, labels[chosen]])
        rows = rows[np.argsort(-rows[:, 4], kind="stable")]
        told = [rows * np.array([*size, *size, 1, 1]) for size in split.sizes]
        return self.answers(split, told)

    def marks(self, told: np.ndarray, classes: Sequence[str]) -> Marks:
        """The boxes of which the model is half sure or more."""
        boxes = [
            MarkedBox((x1, y1, x2, y2), classes[int(label)], score)
            for x1, y1, x2, y2, score, label in told.tolist()
            if score >= SHOWN
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


SHOWN = 0.5
"""Boxes of which the model is less sure are not drawn."""


def in_words(names: Sequence[str]) -> str:
    """`12 RBC, 1 WBC`, the most frequent first; `nothing`."""
    counted = sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count} {name}" for name, count in counted) or "nothing"


def _judged(
    thing: Thing, source: str, size: tuple[int, int], rules: AnnotationRules
) -> tuple[Flaw | None, str, Corners | None]:
    """What is wrong with a box, what the rules make of it, and the box that is kept, if any."""
    box, written = thing.box, ",".join(f"{value:g}" for value in thing.box)
    width, height = size
    place = thing.place or thing.name
    if not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
        inverted = all(map(math.isfinite, box)) and (box[2] < box[0] or box[3] < box[1])
        what = "is inverted" if inverted else "has no area" if all(map(math.isfinite, box)) else "is not finite"
        return Flaw(FlawKind.BAD_BOX, source, place, f"the box {written} {what}"), rules.bad_box, None
    if min(box[0], box[1]) >= -SLACK and box[2] <= width + SLACK and box[3] <= height + SLACK:
        return None, "", box
    x1, y1, x2, y2 = clip(np.array(box, np.float64), width, height).tolist()
    inside = x2 > x1 and y2 > y1
    what = "reaches beyond" if inside else "lies outside of"
    flaw = Flaw(FlawKind.OUTSIDE, source, place, f"the box {written} {what} the picture of {width} x {height}")
    if rules.outside == "clip":
        return flaw, "clip" if inside else "drop", (x1, y1, x2, y2) if inside else None
    return flaw, rules.outside, None


def _joined(of_views: Sequence[np.ndarray]) -> np.ndarray:
    """The objects of one picture, of two that different tiles found of one object the surer."""
    rows = np.concatenate(of_views) if of_views else np.zeros((0, 6))
    view = np.repeat(np.arange(len(of_views)), [len(one) for one in of_views])
    order = np.argsort(-rows[:, 4], kind="stable")
    rows, view = rows[order], view[order]
    if len(of_views) < 2:
        return rows
    common = intersection(rows[:, :4], rows[:, :4])
    areas = area(rows[:, :4])
    same = common > SAME * np.minimum(areas[:, None], areas[None, :])
    same &= (rows[:, None, 5] == rows[None, :, 5]) & (view[:, None] != view[None, :])
    kept = np.ones(len(rows), bool)
    for place in range(len(rows)):
        if kept[place]:
            kept[place + 1 :] &= ~same[place, place + 1 :]
    return rows[kept]
