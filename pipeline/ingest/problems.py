"""What is wrong with annotations, and what the rules of `params.yaml` make of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.annotations import Flaw
from pipeline.contracts import AnnotationRules
from pipeline.errors import UserError
from pipeline.source import printable

SHOWN = 5
"""Problems that an error names."""


class Problem(NamedTuple):
    """A row of `problems.parquet`; see `dataset.PROBLEM_COLUMNS`."""

    source: str
    place: str
    problem: str
    found: str
    done: str

    def __str__(self) -> str:
        where = f"{self.source}, {self.place}" if self.place else self.source
        return f"{where}: {self.found}"


def noted(flaw: Flaw, rules: AnnotationRules, done: str = "") -> Problem:
    """A flaw, with what becomes of it: by default what its rule says."""
    done = done or getattr(rules, flaw.kind.value)
    return Problem(printable(flaw.source), printable(flaw.place), flaw.kind.value, printable(flaw.found), done)


def reason(problems: Sequence[Problem]) -> str:
    """Why a picture is left out, for the row of the picture."""
    first = next((one for one in problems if one.done == "reject"), None) or next(iter(problems), None)
    return f"{first} (annotations.{first.problem})" if first else "its annotation cannot be used"


def check_stops(problems: Sequence[Problem]) -> None:
    """Raise if a rule says to stop.

    Raises:
        UserError: with the first few problems, and how many there are.
    """
    stopping = sorted(one for one in problems if one.done == "stop")
    if not stopping:
        return
    kinds = Counter(one.problem for one in stopping)
    rules = ", ".join(f"annotations.{kind} ({count:,})" for kind, count in sorted(kinds.items()))
    listed = "\n".join(f"  {one}" for one in stopping[:SHOWN])
    more = f"\n  and {len(stopping) - SHOWN:,} more" if len(stopping) > SHOWN else ""
    raise UserError(
        f"{len(stopping):,} things are wrong with the annotations, and params.yaml says to stop: {rules}.\n"
        f"{listed}{more}\nMend them, or choose another rule."
    )
