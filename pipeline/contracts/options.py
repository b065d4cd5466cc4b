"""The base of every part's options and of every section of `params.yaml`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
)
from pydantic_core import CoreSchema, core_schema


class Options(BaseModel):
    """Options of a part or a section of `params.yaml`: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_truth_value(cls, given: Any, about: ValidationInfo) -> Any:
        """Refuse true and false where numbers are expected: Python takes them for 1 and 0."""
        field = cls.model_fields[about.field_name or ""]
        if any(isinstance(check, BeforeValidator) for check in field.metadata):  # which words what it refuses
            return given
        for value in _within(given, set()) if _is_of_numbers(field.annotation) else ():
            if isinstance(value, bool):
                found, words = ("true", "yes and on") if value else ("false", "no and off")
                raise ValueError(f"expected a number; found {found}, which YAML also makes of {words}")
        return given


def _within(given: Any, entered: set[int]) -> Iterator[Any]:
    """A value, or all that a list or mapping holds of them.

    Args:
        given: as YAML has it: by aliases a file of a few lines holds one list a billion times.
        entered: ids of lists and mappings that were looked into, and are not again.
    """
    if not isinstance(given, dict | list | tuple):
        yield given
    elif id(given) not in entered:
        entered.add(id(given))
        for value in given.values() if isinstance(given, dict) else given:
            yield from _within(value, entered)


def _is_of_numbers(annotation: Any) -> bool:
    """Whether a number can stand somewhere in it, and neither true nor false."""
    leaves = list(_leaves(annotation))
    truth = any(leaf in (bool, Any) or isinstance(leaf, bool) for leaf in leaves)
    return not truth and any(leaf in (int, float) or isinstance(leaf, int) for leaf in leaves)


def _leaves(annotation: Any) -> Iterator[Any]:
    """The types of which a type is put together, and the values that are to choose from."""
    inner = get_args(annotation)
    for part in inner:
        yield from _leaves(part)
    if not inner:
        yield annotation


@dataclass(frozen=True)
class Shaped:
    """For an option that is text of one shape: `name: Annotated[str, Shaped("[a-z]+", "small letters")]`."""

    pattern: str
    """Regular expression of the whole text."""
    expected: str
    """What fits it, in words for whoever wrote something else."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Checked once the value is known to be text."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Of its form the words are told, not the pattern."""
        return {**handler(schema), "format": self.expected}

    def _check(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"expected {self.expected}; found {text!r}")
        return text
