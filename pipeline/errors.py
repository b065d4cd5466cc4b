"""Mistakes that a user can mend, and how they are worded.

A message says what was expected, what was found, where, and what to do next, in one or two lines. Whoever stands at
the front door (`python -m pipeline`, `convoy`) prints it without a traceback and exits with status 1.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

NO_VALUE = (ValueError, RecursionError)
"""What a parser of YAML raises beside its own errors: of a date or number that is none, of endless lists."""


class UserError(Exception):
    """A mistake that the user can mend; its text is all that the user needs."""

    status: ClassVar[int] = 1
    """What a command ends with."""


class TemporaryFailure(UserError):
    """Nothing of the user's is wrong: the machine or the network lacks something; once it has that, the same goes on.

    A disk that is full, memory that others hold, a source that is away.
    """

    status: ClassVar[int] = 69
    """`EX_UNAVAILABLE` of sysexits.h."""


class Problem(NamedTuple):
    """One thing wrong in a params file: its place (`train.epochs`) and what to do about it."""

    place: str
    text: str


class ParamsError(UserError):
    """Every problem of one params file, together."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        lines = [f"{file}: {count} problem{'s' if count != 1 else ''}"]
        lines += [f"  {problem.place}: {problem.text}" for problem in self.problems]
        super().__init__("\n".join(lines))


def shortened(text: str, longest: int) -> str:
    """The beginning of what would be longer than so many characters; that it is one can be seen."""
    return text if len(text) <= longest else f"{text[: longest - 4].rstrip()} ..."


def did_you_mean(found: str, valid: Iterable[str]) -> str:
    """The nearest valid name as a question with a leading space, or nothing when none is near."""
    near = difflib.get_close_matches(found, list(valid), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


LIMITS = {
    "greater_than": "set more than {gt}",
    "greater_than_equal": "set {ge} or more",
    "less_than": "set less than {lt}",
    "less_than_equal": "set {le} or less",
    "multiple_of": "set a multiple of {multiple_of}",
    "too_short": "set {min_length} or more of them",
    "too_long": "set {max_length} of them or fewer",
    "string_too_short": "set {min_length} or more characters",
    "string_too_long": "set {max_length} characters or fewer",
}
"""What to do about a value beyond a limit, by pydantic's names of errors, with the limits that it tells."""
KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "keys with values",
    "literal_error": "{expected}",
    "enum": "{expected}",
}
"""What a value was expected to be, likewise."""


def about_value(kind: str, found: Any, limits: Mapping[str, Any]) -> str | None:
    """What is wrong with a value of a params file, and what to write instead; None of a `kind` that is not known.

    Args:
        kind: pydantic's name of the error.
        found: the value.
        limits: what pydantic tells with the error.
    """
    if isinstance(found, float) and not math.isfinite(found):
        kind = "finite_number"
    if kind == "int_parsing" and (number := _whole(found)) is not None:
        return f"expected a whole number; found {found!r}, which YAML reads as text: write {number}."
    if kind in LIMITS:
        plain = {
            key: int(limit) if limit == int(limit) else limit
            for key, limit in limits.items()
            if isinstance(limit, int | float)
        }
        return f"found {in_yaml(found)}; {LIMITS[kind].format(**plain)}."
    return f"expected {KINDS[kind].format(**limits)}; found {in_yaml(found)}." if kind in KINDS else None


def in_yaml(value: Any) -> str:
    """A value in an error, named as a params file names it where Python has another word."""
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _whole(text: Any) -> int | None:
    """The whole number that is meant by `1e9`; None: it is none."""
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None
