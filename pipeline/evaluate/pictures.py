"""Pictures of the worst errors: one by one for the report, and all of them on one sheet."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from pipeline import drawing, frames
from pipeline.answering import Answers
from pipeline.contracts import Frame
from pipeline.dataset import Split
from pipeline.drawing import font, shown
from pipeline.images import cut, decode

THUMBNAIL = 112
"""Side at most of a picture that is known as a whole."""
DRAWN = 320
"""Of the longer side of one with boxes or a mask."""
GAP = 16
BETWEEN = 4
CAPTION = 40
HEADING = 40
PAIRS = 12
"""Pairs of pictures on a sheet: it is stored without compression."""
PAPER, INK, WRONG = "#ffffff", "#1c1917", "#9a3412"


class Mistake(NamedTuple):
    """One picture that is not answered perfectly."""

    pixels: np.ndarray
    """uint8 [h, w, C]: what the network saw, at most 112 pixels a side; with the truth on it, where it lies in it, the
    whole picture, at most 320."""
    answer: np.ndarray | None
    """Likewise with the answer on it; None where an answer is about a picture as a whole."""
    source: str
    actual: str
    said: str
    quality: float
    confidence: float


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
    found = []
    for position in answers.worst(count):
        pixels, true, said = decode(test.read(position), channels), answers.true(position), answers.said(position)
        found.append(
            Mistake(
                pixels=drawing.marked(pixels, true, DRAWN) if located else _seen(pixels, frame),
                answer=drawing.marked(pixels, said, DRAWN) if located else None,
                source=sources[position].as_py(),
                actual=true.words,
                said=said.words,
                quality=float(answers.quality[position]),
                confidence=float(answers.confidence[position]),
            )
        )
    return found


def sheet(worst: list[Mistake], errors: int, images: int) -> np.ndarray:
    """Every mistake with its caption: what is true, and below it or beside it what the network said.

    Args:
        worst: what to draw.
        errors: images in all that are not answered perfectly.
        images: N.

    Returns:
        uint8 [H, W, 3].
    """
    located = any(mistake.answer is not None for mistake in worst)
    cell, columns, worst = (240, 2, worst[:PAIRS]) if located else (128, 6, worst)
    wide = 2 * cell + BETWEEN if located else cell
    high = max((_size(mistake.pixels, cell)[1] for mistake in worst), default=cell)
    rows = max(1, -(-len(worst) // columns))
    canvas = Image.new("RGB", (GAP + columns * (wide + GAP), HEADING + rows * (high + CAPTION + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    text = f"The {len(worst)} worst of {errors} errors on {images} test images"
    if not errors:
        text = f"No errors: all {images} test images are answered rightly"
    draw.text((GAP, GAP), text, INK, font(16))
    for index, mistake in enumerate(worst):
        left = GAP + index % columns * (wide + GAP)
        top = HEADING + GAP + index // columns * (high + CAPTION + GAP)
        _paste(canvas, mistake.pixels, (left, top), cell)
        if mistake.answer is not None:
            _paste(canvas, mistake.answer, (left + cell + BETWEEN, top), cell)
        end = f" (quality {mistake.quality:.2f})" if located else f" ({mistake.confidence:.0%})"
        said = _fitted("\N{RIGHTWARDS ARROW} " + shown(mistake.said), end, wide)
        draw.text((left, top + high + 4), _fitted(shown(mistake.actual), "", wide), INK, font(13))
        draw.text((left, top + high + 21), said, WRONG, font(13))
    return np.asarray(canvas)


def _seen(pixels: np.ndarray, frame: Frame) -> np.ndarray:
    """The square that the network saw; of several the whole picture."""
    height, width = pixels.shape[:2]
    side, longer = min(THUMBNAIL, height, width), max(height, width)
    region = frames.Region(0, 0, longer, longer)
    if frame.name != "tiles":
        (region,) = frames.regions(frame, width, height, side)
    return cut(pixels, region, side)


def _size(pixels: np.ndarray, cell: int) -> tuple[int, int]:
    """Width and height at which a picture is as large as fits into a square cell."""
    height, width = pixels.shape[:2]
    share = cell / max(height, width)
    return max(1, round(width * share)), max(1, round(height * share))


def _paste(canvas: Image.Image, pixels: np.ndarray, place: tuple[int, int], cell: int) -> None:
    """A picture in its cell; one that is smaller is enlarged, each pixel a square."""
    size = _size(pixels, cell)
    picture = Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))))
    way = Image.Resampling.NEAREST if size[0] > picture.width else Image.Resampling.LANCZOS
    canvas.paste(picture.resize(size, way), place)


def _fitted(text: str, end: str, wide: int) -> str:
    """`text` and `end` on one line as wide as a cell, the text cut short where it must be."""
    if font(13).getlength(text[:200] + end) <= wide and len(text) <= 200:
        return text + end
    text = text[: wide // 2]
    while text and font(13).getlength(text + "\N{HORIZONTAL ELLIPSIS}" + end) > wide:
        text = text[:-1]
    return text + "\N{HORIZONTAL ELLIPSIS}" + end
