"""Values out of files of annotations that nobody has checked: numbers, names and ids, or nothing."""

from __future__ import annotations

import json
import math
import re
import reprlib
from typing import Any
from unicodedata import normalize

from pipeline.errors import UserError
from pipeline.source import UNPRINTABLE

Id = int | str
"""What files of annotations number their entries by."""
MAX_CLASS_NAME = 200
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
MAX_NUMBER = 64
"""Characters of a number in text."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 2


class Twice(dict[str, Any]):
    """A JSON object in which a key stands twice: it is left without that key, as nobody can say which one counts."""

    def __init__(self, values: dict[str, Any], key: str) -> None:
        super().__init__(values)
        self.key = key
        del self[key]


def parsed(data: bytes | str, where: str) -> Any:
    """JSON of a file of annotations; an object in it with a key that stands twice is a `Twice`.

    Raises:
        UserError: it is none; `where` says which file it is.
    """
    try:
        found = json.loads(data, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is no JSON: {' '.join(str(error).split())}.") from None
    if isinstance(found, Twice):
        raise UserError(f"{where}: the key {shown(found.key)} stands twice. Keep one.")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    first = {key: place for place, (key, _) in reversed(list(enumerate(pairs)))}
    return Twice(found, next(key for place, (key, _) in enumerate(pairs) if first[key] != place))


def number(value: object) -> float | None:
    """A number of JSON in double precision, infinite and nan too; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def numbers(values: Any) -> tuple[float, ...] | None:
    """A list of numbers of JSON, as `number` has them; None if it is no list, or something in it is none."""
    if not isinstance(values, list) or not set(map(type, values)) <= {int, float}:
        return None
    try:
        return tuple(map(float, values))
    except OverflowError:
        return tuple(math.inf if (one := number(value)) is None else one for value in values)


def number_in(text: str | None) -> float | None:
    """A number that is written as text; None if it is none."""
    text = (text or "").strip()
    return float(text) if len(text) <= MAX_NUMBER and NUMBER.fullmatch(text) else None


def whole(value: object) -> int | None:
    """A whole number, `7` or `7.0`; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or value.is_integer() else None


def identity(value: object) -> Id | None:
    """An id: a whole number or text; None if it is none."""
    return value if isinstance(value, str) else whole(value)


def class_name(value: object) -> str | None:
    """The trimmed name of a class, an accent one with its letter however it was written; None for what cannot be one.

    macOS writes the two apart in names of folders, so that one class would be two.
    """
    name = normalize("NFC", value.strip()) if isinstance(value, str) else ""
    return name if 0 < len(name) <= MAX_CLASS_NAME and not UNPRINTABLE.search(name) else None


def class_said(value: str) -> str:
    """The name of a class in text that somebody wrote.

    Raises:
        ValueError: it cannot be one.
    """
    if (name := class_name(value)) is None:
        expected = f"expected 1 to {MAX_CLASS_NAME} characters, and no control characters"
        raise ValueError(f"the class is {shown(value)}; {expected}")
    return name


def shown(value: object) -> str:
    """A value as a message can hold it: short and in printable characters."""
    return _SHORT.repr(value)
