"""Labels that are numbers."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.annotations import Flaw, FlawKind


def label_of(number: int, classes: Sequence[str], source: str, place: str) -> tuple[str | None, tuple[Flaw, ...]]:
    """The class of a number, or the flaw that it has none.

    Args:
        number: as the source has it.
        classes: names of 0, 1, ...; empty: the numbers are the names.
        source: the file, for the flaw.
        place: likewise, where in it.
    """
    if not classes:
        return str(number), ()
    if 0 <= number < len(classes):
        return classes[number], ()
    found = f"the label {number}; there are {len(classes)} classes"
    return None, (Flaw(FlawKind.UNKNOWN_CLASS, source, place, found),)
