"""Objects whose boxes are checked against their picture."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from pipeline.annotations import Corners, Flaw, FlawKind, Objects, Thing
from pipeline.boxes import SLACK, clip
from pipeline.contracts import AnnotationRules, Settled
from pipeline.tasks._outlines import of_other_size, pixels


def settled(annotation: Objects, width: int, height: int, rules: AnnotationRules) -> Settled:
    """Boxes in pixels of the picture, those with flaws as the rules say.

    Args:
        annotation: as the format gave it.
        width: W of the picture.
        height: H.
        rules: what becomes of flaws.
    """
    objects = pixels(annotation, width, height)
    problems: list[tuple[Flaw, str]] = []
    if other := of_other_size(annotation, width, height):
        problems.append((other, rules.other_size))
    things = []
    for thing in objects.things:
        flaw, done, box = _judged(thing, objects.source, (width, height), rules)
        if flaw:
            problems.append((flaw, done))
        if box:
            things.append(replace(thing, box=box))
    left_out = any(done == "reject" for _, done in problems)
    return Settled(None if left_out else replace(objects, things=tuple(things)), tuple(problems))


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
