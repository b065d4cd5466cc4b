"""Pictures of the worst errors: one by one for the report, and all of them on one sheet.

How an answer is shown goes by what its marks hold: drawn on the picture, as another picture beside it, as bars, or in
words alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline import drawing, frames
from pipeline.answering import Answers, Marks
from pipeline.contracts import Frame
from pipeline.dataset import Split
from pipeline.images import cut, decode
from pipeline.marking import Bar, bars

THUMBNAIL = 112
"""Side at most of a picture that is known as a whole, and whose answer is one word below it."""
SEEN = 224
"""Likewise where the answer takes the place beside it."""
DRAWN = 320
"""Of the longer side of one with boxes, points or a mask."""


class Mistake(NamedTuple):
    """One picture that is not answered perfectly."""

    pixels: np.ndarray
    """uint8 [h, w, C]: what the network saw; with the truth on it, where it lies in it, the whole picture."""
    answer: np.ndarray | None
    """Likewise with the answer on it, or the other picture that it is about; None where there is nothing to be seen."""
    source: str
    actual: str
    said: str
    quality: float
    confidence: float
    bars: Sequence[Bar] = ()
    """Of the answer; none if it has none."""
    other: str = ""
    """What is true of the other picture, if `answer` is one."""


def mistakes(test: Split, answers: Answers, frame: Frame, located: bool, count: int) -> list[Mistake]:
    """The worst errors with their pictures, the worst first.

    Args:
        test: the images.
        answers: to them.
        frame: what of a picture the network sees.
        located: whether truth and answers lie somewhere in the pictures.
        count: of errors, at most.
    """
    sources, channels = test.samples.column("source"), test.dataset.info.channels
    worst = answers.worst(count)
    told = [answers.said(position) for position in worst]
    side = SEEN if located or answers.graded or any(map(_beside, told)) else THUMBNAIL

    def seen(position: int) -> np.ndarray:
        return _seen(decode(test.read(position), channels), frame, side)

    found = []
    for position, said in zip(worst, told, strict=True):
        true = answers.true(position)
        answer: np.ndarray | None
        if located:
            pixels = decode(test.read(position), channels)
            shown, answer = drawing.marked(pixels, true, DRAWN), drawing.marked(pixels, said, DRAWN)
        else:
            shown, answer = seen(position), None if said.beside is None else seen(said.beside)
        found.append(
            Mistake(
                pixels=shown,
                answer=answer,
                source=sources[position].as_py(),
                actual=true.words,
                said=said.words,
                quality=float(answers.quality[position]),
                confidence=float(answers.confidence[position]),
                bars=bars(said, true.words),
                other="" if said.beside is None else answers.true(said.beside).words,
            )
        )
    return found


def beside(answers: Answers, located: bool, worst: Sequence[Mistake]) -> bool:
    """Whether answers take the place beside their pictures; else each is one word below it, and right or wrong."""
    return located or answers.graded or any(mistake.bars or mistake.answer is not None for mistake in worst)


def _beside(said: Marks) -> bool:
    return bool(said.bars) or said.beside is not None


def _seen(pixels: np.ndarray, frame: Frame, most: int) -> np.ndarray:
    """The square that the network saw, of `most` pixels a side at most; of several the whole picture."""
    height, width = pixels.shape[:2]
    side, longer = min(most, height, width), max(height, width)
    region = frames.Region(0, 0, longer, longer)
    if frame.name != "tiles":
        (region,) = frames.regions(frame, width, height, side)
    return cut(pixels, region, side)
