"""Options of `params.yaml` in words, from the classes that declare them: type, limits, default, docstring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

import yaml
from pydantic_core import to_jsonable_python

from pipeline.contracts import Options

TYPES = {"boolean": "true or false", "integer": "whole number", "number": "number", "string": "text", "null": "null"}
"""Of JSON schemas, in words."""
LIMITS = {
    "minimum": "{} or more",
    "exclusiveMinimum": "more than {}",
    "maximum": "{} or less",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "{} or more characters",
    "maxLength": "{} characters or fewer",
    "pattern": "of the form {}",
    "format": "{}",
    "minItems": "{} or more of them",
    "maxItems": "{} of them or fewer",
}
"""Likewise."""


class Declared(NamedTuple):
    """One option."""

    name: str
    """As a params file has it; `frame.tile` of one within another."""
    kind: str
    """What it may be: `whole number, 1 or more`."""
    default: str
    """`default 10`, or `must be set`."""
    docstring: str


def declared(options: type[Options], before: str = "") -> Iterator[Declared]:
    """Each option of a class, and after it those within it.

    Args:
        options: the class.
        before: what their names begin with.
    """
    schemas = options.model_json_schema()["properties"]
    for key, field in options.model_fields.items():
        name = field.alias or key
        if name not in schemas:  # read from the keys beside it, as the loss of a term in a sum
            continue
        default = "must be set"
        if not field.is_required():
            default = f"default {in_yaml(field.get_default(call_default_factory=True))}"
        yield Declared(f"{before}{name}", _kind(schemas[name]), default, field.description or "")
        for inner in _within(field.annotation):
            yield from declared(inner, f"{before}{name}.")


def in_yaml(value: Any) -> str:
    """A value as a params file has it, in one line."""
    plain = to_jsonable_python(value)
    return yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("...\n").strip()


def _within(annotation: Any) -> Iterator[type[Options]]:
    """The classes of options that a type is put together of."""
    if isinstance(annotation, type) and issubclass(annotation, Options):
        yield annotation
    for inner in get_args(annotation):
        yield from _within(inner)


def _kind(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in words: `list, each whole number`."""
    if "anyOf" in schema:
        return ", or ".join(map(_kind, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " | ".join(map(in_yaml, schema.get("enum", [schema.get("const")])))
    if "$ref" in schema:
        return "section of its own"
    kind = schema.get("type")
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])}: {'; '.join(map(_kind, schema['prefixItems']))}"
    if kind == "array":
        words = f"list, each {_kind(schema['items'])}"
    elif kind == "object":
        entry = schema.get("additionalProperties")
        words = f"keys, each with {_kind(entry)}" if isinstance(entry, dict) else "keys with values"
    else:
        words = TYPES.get(str(kind), "any value")
    return ", ".join([words, *_limits(schema)])


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    limits = {key: _plain(schema[key]) for key in LIMITS if key in schema}
    if "minimum" in limits and "maximum" in limits:
        yield f"{limits.pop('minimum')} to {limits.pop('maximum')}"
    yield from (LIMITS[key].format(value) for key, value in limits.items())


def _plain(limit: Any) -> Any:
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit
