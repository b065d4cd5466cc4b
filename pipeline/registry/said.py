"""What a model says of each test image, as a case keeps it: in words and, while there is room, to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline import masks
from pipeline.answering import Answers
from pipeline.marking import as_text

MOST_BYTES = 16_000_000
"""Of what is to be drawn of one model's answers: a case is kept for ever."""


class Said(NamedTuple):
    """Of N images."""

    words: list[str]
    marks: list[str | None]
    """Of `marking.as_text`; None where nothing is kept."""
    masks: list[bytes | None]
    """Of `masks.encode`; None where there is none, or nothing is kept."""


def said(answers: Answers, first: Sequence[int], most: int = MOST_BYTES) -> Said:
    """What is said of each image; what is to be drawn of some of them.

    Args:
        answers: to N images.
        first: positions of those that are to be drawn, in the order in which they are kept.
        most: bytes to keep, more or less.
    """
    count, kept = len(answers), 0
    found = Said([""] * count, [None] * count, [None] * count)
    drawn = set(first)
    for position in (*first, *(place for place in range(count) if place not in drawn)):
        marks = answers.said(position)  # one at a time: masks are large
        found.words[position] = marks.words
        if position in drawn and kept < most:
            text = as_text(marks)
            mask = None if marks.mask is None else masks.encode(marks.mask)
            found.marks[position], found.masks[position] = text, mask
            kept += len(text) + len(mask or b"")
    return found
