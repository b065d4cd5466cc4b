"""Objects whose pixels are checked against their picture, and those that tiles of one picture have in common."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pipeline.annotations import Flaw, FlawKind, Objects, Runs, Thing
from pipeline.boxes import SLACK, clip, meeting
from pipeline.contracts import AnnotationRules, Settled
from pipeline.runs import Insides, filled, placed, tidy
from pipeline.tasks._objects import surest
from pipeline.tasks._outlines import of_other_size, pixels

SAME = 0.6
"""Two objects of one class that different tiles found are one if they have this share of the smaller in common, or of
what either covers where both tiles look."""


class Told(NamedTuple):
    """What a network says of one picture, the surest object first."""

    rows: np.ndarray
    """x1, y1, x2, y2, score, class id: float64 [d, 6]."""
    runs: list[np.ndarray]
    """The pixels of each, int32 [r]: see `pipeline.runs`."""
    size: tuple[int, int]
    """Width and height of the picture."""


def settled(annotation: Objects, width: int, height: int, rules: AnnotationRules) -> Settled:
    """Objects as runs at the size of the picture, their boxes around these; those with flaws as the rules say.

    Args:
        annotation: as the format gave it, or as it was decoded.
        width: W of the picture.
        height: H.
        rules: what becomes of flaws.
    """
    objects = pixels(annotation, width, height)
    problems = [(flaw, _rule(flaw, rules)) for flaw in annotation.flaws]
    if other := of_other_size(annotation, width, height):
        problems.append((other, rules.other_size))
    things: list[Thing] = []
    for thing in objects.things:
        flaw, done, runs = _judged(thing, objects.source, (width, height), rules)
        if flaw:
            problems.append((flaw, done))
        if runs is not None:
            # An array takes a tenth of the memory of a tuple: all objects of a source are held until they are written.
            things.append(replace(thing, outline=Runs(height, width, array("i", runs.tobytes()))))
    insides = [thing.outline.lengths for thing in things if isinstance(thing.outline, Runs)]
    boxes = Insides.of(insides, np.tile([width, height], (len(things), 1))).boxes.tolist()
    things = [replace(thing, box=tuple(box)) for thing, box in zip(things, boxes, strict=True)]
    left_out = any(done == "reject" for _, done in problems)
    return Settled(None if left_out else replace(objects, things=tuple(things), flaws=()), tuple(problems))


def joined(of_views: Sequence[Told], regions: Sequence[np.ndarray]) -> Told:
    """The objects of one picture, of two that different tiles found of one object the surer.

    Args:
        of_views: what each tile says, in pixels of the picture.
        regions: of the tiles, float64 [4] each.
    """
    rows = np.concatenate([one.rows for one in of_views])
    runs = [lengths for one in of_views for lengths in one.runs]
    view = np.repeat(np.arange(len(of_views)), [len(one.rows) for one in of_views])
    order = np.argsort(-rows[:, 4], kind="stable")
    rows, view, runs = rows[order], view[order], [runs[place] for place in order]
    if len(of_views) < 2:
        return Told(rows, runs, of_views[0].size)
    insides = Insides.of(runs, np.tile(of_views[0].size, (len(runs), 1)))
    one, other = meeting(insides.boxes, rows[:, 5].astype(np.int64), view)
    both, seen = insides.common(one, insides, other), _tiles(regions, of_views[0].size)
    # Of what is larger than the margin of a tile each sees a part; where both look, the parts are the same.
    parts = insides.common(one, seen, view[other]), insides.common(other, seen, view[one])
    alike = both > SAME * np.minimum(insides.areas[one], insides.areas[other])
    alike |= both > SAME * (parts[0] + parts[1] - both)
    kept = surest(len(rows), one[alike], other[alike])
    return Told(rows[kept], [lengths for lengths, stays in zip(runs, kept, strict=True) if stays], of_views[0].size)


def _tiles(regions: Sequence[np.ndarray], size: tuple[int, int]) -> Insides:
    """The pixels of a picture that each tile shows."""
    shown = []
    for x1, y1, x2, y2 in clip(np.stack(regions), *size).astype(int).tolist():
        shown.append(placed(np.ones((y2 - y1, x2 - x1), bool), x1, y1, *size))
    return Insides.of(shown, np.tile(size, (len(shown), 1)))


def _judged(
    thing: Thing, source: str, size: tuple[int, int], rules: AnnotationRules
) -> tuple[Flaw | None, str, np.ndarray | None]:
    """What is wrong with an outline, what the rules make of it, and the runs that are kept, if any."""
    place, (width, height) = thing.place or thing.name, size
    if isinstance(thing.outline, Runs):
        if (thing.outline.width, thing.outline.height) != size:
            found = f"runs of {thing.outline.width} x {thing.outline.height}; the picture is {width} x {height}"
            return Flaw(FlawKind.OTHER_SIZE, source, place, found), rules.other_size, None
        try:
            return _with_pixels(tidy(thing.outline.lengths, width, height), source, place, rules)
        except ValueError as error:
            return Flaw(FlawKind.UNREADABLE, source, place, str(error)), rules.unreadable, None
    if not thing.outline:
        return Flaw(FlawKind.UNREADABLE, source, place, "it has no outline"), rules.unreadable, None
    corners = np.concatenate([np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in thing.outline])
    if not np.isfinite(corners).all():
        return Flaw(FlawKind.BAD_BOX, source, place, "its outline is not finite"), rules.bad_box, None
    runs = filled(thing.outline, width, height)
    if corners.min() >= -SLACK and (corners <= np.add(size, SLACK)).all():
        return _with_pixels(runs, source, place, rules)
    seen = len(runs) > 1
    what = "reaches beyond" if seen else "has no pixel in"
    flaw = Flaw(FlawKind.OUTSIDE, source, place, f"its outline {what} the picture of {width} x {height}")
    if rules.outside == "clip":
        return flaw, "clip" if seen else "drop", runs if seen else None
    return flaw, rules.outside, None


def _with_pixels(
    runs: np.ndarray, source: str, place: str, rules: AnnotationRules
) -> tuple[Flaw | None, str, np.ndarray | None]:
    if len(runs) > 1:
        return None, "", runs
    return Flaw(FlawKind.BAD_BOX, source, place, "its outline holds no pixel"), rules.bad_box, None


def _rule(flaw: Flaw, rules: AnnotationRules) -> str:
    done: str = getattr(rules, flaw.kind.value)
    return done
