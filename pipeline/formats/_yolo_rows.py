"""The rows of a YOLO label file: a class and a box, a class and a polygon, or a class, a box and keypoints.

    0 0.5 0.5 0.2 0.4            class, centre and size, in shares of the picture's width and height
    0 0.1 0.1 0.9 0.1 0.5 0.9    class and corners

Source: https://docs.ultralytics.com/datasets/detect/ and .../segment/ (no code of theirs is used).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pipeline.annotations import Corners, Drawn, Flaw, FlawKind, Objects, Polygon, Thing
from pipeline.contracts import Target
from pipeline.formats._coco_outlines import extent
from pipeline.formats._said import Story
from pipeline.formats._values import number_in, shown, whole

BOX = 5
"""Values of a class and a box."""
POLYGON = 7
"""Values of a class and a triangle; a polygon has an odd number of them."""


class Classes(NamedTuple):
    """What the numbers in rows mean."""

    file: str
    """That names them; empty where none does, and the numbers are their own names."""
    names: Mapping[int, str]
    keypoints: int = 0
    """Values of the keypoints that follow each box; 0: there are none."""


class Survey(NamedTuple):
    """What is in a label file, at a glance."""

    numeric: bool
    """Whether its first row looks like one."""
    numbers: frozenset[int]
    """The classes in it."""
    outlined: bool
    """Whether a row of it is a polygon."""


def survey(data: bytes, keypoints: int) -> Survey:
    """Look at a label file without judging it."""
    rows = [tokens for _, tokens in _rows(data)]
    first = rows[0] if rows else []
    numbers = {whole(number_in(tokens[0])) for tokens in rows}
    outlined = any(_is_polygon(len(tokens), keypoints) for tokens in rows)
    return Survey(looks(first), frozenset(number for number in numbers if number is not None), outlined)


def looks(tokens: list[str]) -> bool:
    """Whether a row is one of a class and shares; a little beyond the edge is no reason to doubt it."""
    values = [number_in(token) for token in tokens]
    suits = len(values) >= BOX and whole(values[0]) is not None
    return suits and all(value is not None and -1 <= value <= 2 for value in values[1:])


def story(file: str, data: bytes, classes: Classes, outlined: bool) -> Story:
    """What a label file says of its picture.

    Args:
        file: its name.
        data: its contents.
        classes: what the numbers mean.
        outlined: whether the source draws outlines, so that a picture without a row has an empty mask.
    """
    things: list[Thing] = []
    flaws: list[Flaw] = []
    for line, tokens in _rows(data):
        place = f"line {line}"
        try:
            name = _name(tokens[0], classes)
            box, outline = _shape(tokens[1:], classes.keypoints)
            things.append(Thing(name, box, f"{place} ({name})", outline=outline))
        except KeyError as error:
            missing = f"{classes.file} names no class" if classes.file else "classes are numbers from 0 on, and none is"
            flaws.append(Flaw(FlawKind.UNKNOWN_CLASS, file, place, f"{missing} {error.args[0]}"))
        except ValueError as error:
            flaws.append(Flaw(FlawKind.UNREADABLE, file, place, str(error)))
    found = Objects(tuple(things), file, relative=True)
    told: dict[Target, Any] = {Target.OBJECTS: found}
    if outlined:
        told[Target.INSTANCES] = found
    if outlined and not flaws and all(thing.outline for thing in things):
        told[Target.MASK] = Drawn(found)
    return told, flaws


def _rows(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """The values of each row that is not blank, with its number."""
    for line, row in enumerate(data.decode("utf-8-sig", "replace").split("\n"), start=1):
        if tokens := row.split():
            yield line, tokens


def _name(token: str, classes: Classes) -> str:
    number = whole(number_in(token))
    if number is None:
        raise ValueError(f"its class is {shown(token)}; expected a whole number")
    if not classes.file and number >= 0:
        return str(number)
    if number not in classes.names:
        raise KeyError(shown(number))
    return classes.names[number]


def _shape(tokens: list[str], keypoints: int) -> tuple[Corners, tuple[Polygon, ...] | None]:
    values = [number_in(token) for token in tokens]
    if None in values:
        raise ValueError(f"{shown(tokens[values.index(None)])} is no number")
    numbers = tuple(value for value in values if value is not None)
    if len(numbers) + 1 in (BOX, BOX + keypoints):
        x, y, width, height = numbers[:4]
        return (x - width / 2, y - height / 2, x + width / 2, y + height / 2), None
    if not _is_polygon(len(numbers) + 1, keypoints):
        raise ValueError(f"{len(numbers) + 1} values; expected {BOX}, or for a polygon an odd number from {POLYGON} on")
    return extent((numbers,)), (numbers,)


def _is_polygon(values: int, keypoints: int) -> bool:
    return values >= POLYGON and values % 2 == 1 and not keypoints
