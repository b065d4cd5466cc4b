"""Pictures of the worst errors: thumbnails for the report, and all of them on one sheet."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.dataset import Split
from pipeline.evaluate.answers import Answers
from pipeline.evaluate.wording import shown
from pipeline.images import decode, shrink

THUMBNAIL = 112
CELL = 128
COLUMNS = 6
GAP = 16
CAPTION = 40
HEADING = 40
PAPER, INK, FAINT, WRONG = "#ffffff", "#1c1917", "#57534e", "#9a3412"


class Mistake(NamedTuple):
    """One wrong answer."""

    pixels: np.ndarray
    """uint8 [H, W, C], the square middle that the network saw, at most 112 pixels a side."""
    source: str
    actual: str
    predicted: str
    confidence: float


def mistakes(test: Split, answers: Answers, channels: int, count: int) -> list[Mistake]:
    """The worst errors with their pictures, the worst first."""
    sources = test.samples.column("source")
    return [
        Mistake(
            pixels=_thumbnail(decode(test.read(position), channels)),
            source=sources[position].as_py(),
            actual=answers.classes[answers.labels[position]],
            predicted=answers.classes[answers.predicted[position]],
            confidence=float(answers.confidence[position]),
        )
        for position in answers.worst(count)
    ]


def sheet(worst: list[Mistake], errors: int, images: int) -> np.ndarray:
    """Every mistake with its caption: what it is, and below it what the network took it for.

    Args:
        worst: what to draw.
        errors: wrong answers in all.
        images: N.

    Returns:
        uint8 [H, W, 3].
    """
    rows = max(1, -(-len(worst) // COLUMNS))
    width = GAP + COLUMNS * (CELL + GAP)
    canvas = Image.new("RGB", (width, HEADING + rows * (CELL + CAPTION + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    text = f"The {len(worst)} worst of {errors} errors on {images} test images"
    if not errors:
        text = f"No errors: all {images} test images are answered rightly"
    draw.text((GAP, GAP), text, INK, _font(16))
    for index, mistake in enumerate(worst):
        left = GAP + index % COLUMNS * (CELL + GAP)
        top = HEADING + GAP + index // COLUMNS * (CELL + CAPTION + GAP)
        picture = Image.fromarray(np.broadcast_to(mistake.pixels, (*mistake.pixels.shape[:2], 3)))
        canvas.paste(picture.resize((CELL, CELL), Image.Resampling.NEAREST), (left, top))
        certainty = f" ({mistake.confidence:.0%})"
        draw.text((left, top + CELL + 4), _fitted(shown(mistake.actual), ""), INK, _font(13))
        draw.text(
            (left, top + CELL + 21),
            _fitted("\N{RIGHTWARDS ARROW} " + shown(mistake.predicted), certainty),
            WRONG,
            _font(13),
        )
    return np.asarray(canvas)


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    return shrink(pixels, min(THUMBNAIL, *pixels.shape[:2]))


def _fitted(text: str, end: str) -> str:
    """`text` and `end` on one line as wide as a cell, the text cut short where it must be."""
    if _font(13).getlength(text + end) <= CELL:
        return text + end
    text = text[: CELL // 2]
    while text and _font(13).getlength(text + "\N{HORIZONTAL ELLIPSIS}" + end) > CELL:
        text = text[:-1]
    return text + "\N{HORIZONTAL ELLIPSIS}" + end


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans (Latin, Greek, Cyrillic, Hebrew, Arabic), which MLflow's matplotlib brings, else Pillow's own."""
    spec = find_spec("matplotlib")
    path = Path(spec.origin or "").parent / "mpl-data/fonts/ttf/DejaVuSans.ttf" if spec else Path("none")
    if path.is_file():
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    return ImageFont.load_default(size)
