"""What an answer holds: its values by name, with their types as MLflow's model signatures spell them.

It is told here, where real answers are, so that a model is registered without asking it anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SCALARS = ((str, "string"), (bytes, "binary"), (bool, "boolean"), (int, "long"), (float, "double"))


def columns(answers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The columns that such answers are served in.

    Args:
        answers: in plain values, at least one. What a list holds, an empty one does not say: as many are looked at as
            it takes to know.
    """
    return [{"name": name, "required": True, **_type_of(value)} for name, value in _fullest(answers).items()]


def _fullest(answers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each value of some answers the first that is not empty."""
    found: dict[str, Any] = {}
    for answer in answers:
        found = {name: value if _is_empty(found.get(name, [])) else found[name] for name, value in answer.items()}
        if not any(map(_is_empty, found.values())):
            break
    return found


def _is_empty(value: Any) -> bool:
    return isinstance(value, list | dict) and not value


def _type_of(value: Any, record: bool = False) -> dict[str, Any]:
    """The type of a plain value.

    Args:
        value: text, a number, bytes, a list of such, or a dict: one with names of the data, such as classes, is a map.
        record: whether it lies in a list: then the names of a dict are fixed, and it is an object.
    """
    if isinstance(value, dict) and record:
        fields = {name: {**_type_of(one, record=True), "required": True} for name, one in value.items()}
        return {"type": "object", "properties": fields}
    if isinstance(value, dict):
        return {"type": "map", "values": _type_of(next(iter(value.values()), 0.0))}
    if isinstance(value, list):
        return {"type": "array", "items": _type_of(value[0], record=True) if value else {"type": "any"}}
    return {"type": next(name for kind, name in SCALARS if isinstance(value, kind))}
