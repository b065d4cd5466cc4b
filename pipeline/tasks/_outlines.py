"""Objects as tasks take them: in pixels, with outlines that can be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.annotations import Flaw, FlawKind, Objects, Runs, Thing


def pixels(annotation: Objects, width: int, height: int) -> Objects:
    """The same in pixels, if it is in shares of the picture."""
    if not annotation.relative:
        return annotation

    def scaled(values: Sequence[float]) -> tuple[float, ...]:
        return tuple(value * (height if index % 2 else width) for index, value in enumerate(values))

    def in_pixels(thing: Thing) -> Thing:
        x1, y1, x2, y2 = scaled(thing.box)
        outline = thing.outline if isinstance(thing.outline, Runs | None) else tuple(map(scaled, thing.outline))
        return replace(thing, box=(x1, y1, x2, y2), outline=outline)

    return replace(annotation, things=tuple(map(in_pixels, annotation.things)), relative=False)


def polygons(thing: Thing) -> list[list[float]] | None:
    """Its outline as it is kept; one of runs is not."""
    if thing.outline is None or isinstance(thing.outline, Runs):
        return None
    return [list(map(float, polygon)) for polygon in thing.outline]


def of_other_size(annotation: Objects, width: int, height: int) -> Flaw | None:
    """The flaw of an annotation that says that the picture has another size than it has."""
    if not annotation.said_size or annotation.said_size == (width, height):
        return None
    said = "{} x {}".format(*annotation.said_size)
    found = f"it says {said}; the picture is {width} x {height}"
    return Flaw(FlawKind.OTHER_SIZE, annotation.source, "", found)
