"""How the `datasets` library writes classes and objects into tables.

label     a number; the schema says what it stands for, as ClassLabel
objects   {bbox: [[x, y, width, height], ...], category: [number, ...]}, or a list of {bbox, category}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.annotations import Flaw, FlawKind, Thing
from pipeline.formats._label_sets import YES
from pipeline.formats._values import class_said, number, number_in, shown, whole

BOXES = ("bbox", "bboxes", "box", "boxes")
CATEGORIES = ("category", "categories", "label", "labels", "class", "classes", "category_id")
CROWDS = ("iscrowd", "is_crowd", "crowd")
NO_LABEL = -1
"""A picture of a split whose labels are kept secret."""


def class_names(metadata: Mapping[bytes, bytes] | None, column: str) -> dict[int, str]:
    """The names of a column's numbers, as the schema's metadata tells them; empty if it does not.

    Args:
        metadata: of an Arrow schema.
        column: a ClassLabel, or objects that have one.
    """
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"][column]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    found = _names(features, 0)
    return dict(enumerate(found)) if found and all(isinstance(name, str) for name in found) else {}


def _names(features: Any, depth: int) -> list[Any] | None:
    """The names of the first ClassLabel in a description of features."""
    if depth > 8 or not isinstance(features, dict | list):
        return None
    if isinstance(features, dict) and isinstance(names := features.get("names"), list):
        return names
    inner = features.values() if isinstance(features, dict) else features
    return next((found for value in inner if (found := _names(value, depth + 1)) is not None), None)


def class_name(value: Any, names: Mapping[int, str]) -> str | None:
    """The class of a cell; None if it has none.

    Raises:
        ValueError: it is no class.
    """
    if value is None or value == NO_LABEL or value != value or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        return class_said(value)
    if (number := whole(value)) is None:
        raise ValueError(f"the class is {str(value)[:40]!r}; expected a name or a number")
    if names and number not in names:
        raise KeyError(f"no class has the number {shown(number)}; there are {len(names)}")
    return class_said(names.get(number, str(number)))


def things(objects: Any, names: Mapping[int, str], source: str, place: str) -> Iterator[Thing | Flaw]:
    """The objects of a cell, and a flaw for each that cannot be understood.

    Args:
        objects: as Arrow or JSON gives them.
        names: of the classes.
        source: the file, for flaws.
        place: likewise, where in it.
    """
    for count, (box, category, crowd) in enumerate(_each(objects), start=1):
        where = f"{place}, object {count}"
        try:
            x, y, width, height = numbers(box)
            name = class_name(category, names)
            if name is None:
                raise ValueError("it has no class")
        except KeyError as error:
            yield Flaw(FlawKind.UNKNOWN_CLASS, source, where, str(error.args[0]))
        except ValueError as error:
            yield Flaw(FlawKind.UNREADABLE, source, where, str(error))
        else:
            yield Thing(name, (x, y, x + width, y + height), f"{where} ({name})", str(crowd).lower() in YES)


def numbers(box: Any) -> tuple[float, float, float, float]:
    """Four numbers; whether they make a box is not asked here.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(box, Sequence) and not isinstance(box, str) and len(box) == 4:
        x, y, third, fourth = (number_in(value) if isinstance(value, str) else number(value) for value in box)
        if x is not None and y is not None and third is not None and fourth is not None:
            return x, y, third, fourth
    raise ValueError(f"the box is {shown(box)}; expected four numbers")


def _each(objects: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Box, category and crowd of each object, however they are nested."""
    if isinstance(objects, Mapping):
        columns = [_of(objects, keys) for keys in (BOXES, CATEGORIES, CROWDS)]
        lengths = [len(column) for column in columns if isinstance(column, Sequence)]
        for row in range(max(lengths, default=0)):
            cells = [column[row] if isinstance(column, Sequence) and row < len(column) else None for column in columns]
            yield cells[0], cells[1], cells[2]
    elif isinstance(objects, Sequence) and not isinstance(objects, str):
        for one in objects:
            found = one if isinstance(one, Mapping) else {}
            yield _of(found, BOXES), _of(found, CATEGORIES), _of(found, CROWDS)


def _of(found: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((found[key] for key in keys if key in found), None)
