"""Mistakes that a user can mend, and how they are worded.

A message says what was expected, what was found, where, and what to do next, in one or two lines. Whoever stands at
the front door (`python -m pipeline`, `convoy`) prints it without a traceback and exits with status 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar, NamedTuple


class UserError(Exception):
    """A mistake that the user can mend; its text is all that the user needs."""

    status: ClassVar[int] = 1
    """What a command ends with."""


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
