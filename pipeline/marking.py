"""Marks as text, which a page draws again without asking a model; and their bars beside what is true."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.annotations import Runs
from pipeline.answering import MarkedBox, MarkedPoint, Marks

if TYPE_CHECKING:
    import numpy as np


class Bar(NamedTuple):
    """How sure a model is of one class."""

    name: str
    share: float
    """0..1."""
    true: bool
    """Whether it is what is true, or a part of it."""


def bars(said: Marks, actual: str, most: int = 10) -> list[Bar]:
    """The bars of an answer in their order, of many those of the largest shares and of what is true.

    Args:
        said: the answer.
        actual: what is true, in words: a class, or several with commas between them.
        most: of them.
    """
    every = [Bar(name, share, name == actual or f", {name}, " in f", {actual}, ") for name, share in said.bars]
    ranked = sorted(range(len(every)), key=lambda place: (not every[place].true, -every[place].share))
    return [every[place] for place in sorted(ranked[:most])]


def as_text(marks: Marks) -> str:
    """Marks to be drawn, but for words and mask, as JSON; empty if there is nothing to draw."""
    if not (marks.boxes or marks.points or marks.bars or marks.beside is not None):
        return ""
    boxes = [[list(box.box), box.name, box.score, box.faint, box.inside] for box in marks.boxes]
    return json.dumps([boxes, marks.points, marks.bars, marks.beside])


def from_text(text: str, classes: Sequence[str], mask: np.ndarray | None = None) -> Marks:
    """`as_text` backwards, for classes of these names.

    Raises:
        ValueError: the text is damaged.
    """
    if not text:
        return Marks("", mask=mask, classes=classes)
    try:
        boxes, points, bars, beside = json.loads(text)
        return Marks(
            words="",
            boxes=[_box(*box) for box in boxes],
            mask=mask,
            classes=classes,
            points=[MarkedPoint(float(x), float(y), str(name)) for x, y, name in points],
            bars=[(str(name), float(share)) for name, share in bars],
            beside=None if beside is None else int(beside),
        )
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise ValueError(f"no marks: {error}") from error


def _box(box: Any, name: Any, score: Any, faint: Any, inside: Any) -> MarkedBox:
    x1, y1, x2, y2 = map(float, box)
    runs = Runs(int(inside[0]), int(inside[1]), tuple(map(int, inside[2]))) if inside else None
    return MarkedBox((x1, y1, x2, y2), str(name), None if score is None else float(score), bool(faint), runs)
