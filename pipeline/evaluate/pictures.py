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
from pipeline.evaluate.wording import percent
from pipeline.images import cut, decode

THUMBNAIL = 112
"""Side at most of a picture that is known as a whole."""
DRAWN = 320
"""Of the longer side of one with boxes or a mask."""
GAP = 16
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
    cell, columns = (240, 2) if located else (128, 6)
    worst = worst[:PAIRS] if located else worst
    wide = 2 * cell if located else cell
    rows = max(1, -(-len(worst) // columns))
    canvas = Image.new("RGB", (GAP + columns * (wide + GAP), HEADING + rows * (cell + CAPTION + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    text = f"The {len(worst)} worst of {errors} errors on {images} test images"
    if not errors:
        text = f"No errors: all {images} test images are answered rightly"
    draw.text((GAP, GAP), text, INK, font(16))
    for index, mistake in enumerate(worst):
        left = GAP + index % columns * (wide + GAP)
        top = HEADING + GAP + index // columns * (cell + CAPTION + GAP)
        for place, pixels in enumerate([mistake.pixels] if mistake.answer is None else [mistake.pixels, mistake.answer]):
            _paste(canvas, pixels, (left + place * cell, top), cell)
        end = f" ({(mistake.quality if located else mistake.confidence):.0%})"
        lines = (shown(mistake.actual), ""), ("\N{RIGHTWARDS ARROW} " + shown(mistake.said), end)
        for line, (words, last) in enumerate(lines):
            draw.text((left, top + cell + 4 + 17 * line), _fitted(words, last, wide), (INK, WRONG)[line], font(13))
    return np.asarray(canvas)



def _seen(pixels: np.ndarray, frame: Frame) -> np.ndarray:
    """The square that the network saw; of several the whole picture."""
    height, width = pixels.shape[:2]
    side = min(THUMBNAIL, height, width)
    regions = frames.regions(frame, width, height, side)
    region = regions[0] if frame.name != "tiles" else frames.regions(Frame(name="pad"), width, height, side)[0]
    return cut(pixels, region, side)


def _paste(canvas: Image.Image, pixels: np.ndarray, place: tuple[int, int], cell: int) -> None:
    """A picture in a square cell, as large as fits; one that is smaller is enlarged, each pixel a square."""
    height, width = pixels.shape[:2]
    share = cell / max(height, width)
    size = (max(1, round(width * share)), max(1, round(height * share)))
    picture = Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3))))
    way = Image.Resampling.NEAREST if share > 1 else Image.Resampling.LANCZOS
    canvas.paste(picture.resize(size, way), (place[0] + (cell - size[0]) // 2, place[1] + (cell - size[1]) // 2))


def _fitted(text: str, end: str, wide: int) -> str:
    """`text` and `end` on one line as wide as a cell, the text cut short where it must be."""
    if font(13).getlength(text[:200] + end) <= wide and len(text) <= 200:
        return text + end
    text = text[: wide // 2]
    while text and font(13).getlength(text + "\N{HORIZONTAL ELLIPSIS}" + end) > wide:
        text = text[:-1]
    return text + "\N{HORIZONTAL ELLIPSIS}" + end
