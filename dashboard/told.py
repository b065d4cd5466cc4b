"""An answer as a page shows it beside its picture: drawn on it, with another picture, as bars, or in words alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pipeline.marking import Bar


class Told(NamedTuple):
    """What is to be shown of an answer."""

    words: str
    drawn: str = ""
    """Address of the picture with the answer drawn on it, where there is something to draw."""
    other: str = ""
    """Address of another picture that is to be looked at beside it."""
    bars: Sequence[Bar] = ()


def told(words: str, actual: str, text: str | None, other: Callable[[int], str]) -> Told:
    """An answer about a picture as a whole.

    Args:
        words: of the answer.
        actual: what is true, in words.
        text: of `marking.as_text`; None where nothing was kept. Damage is no reason to show nothing.
        other: from a position among all that were asked to the address of that picture; nothing, if there is none.
    """
    from pipeline.marking import bars, from_text

    try:
        marks = from_text(text or "", ())
    except ValueError:
        return Told(words)
    beside = other(marks.beside) if marks.beside is not None else ""
    return Told(words, "", beside, tuple(bars(marks, actual)))
