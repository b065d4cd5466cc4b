"""The worst errors on one sheet: every picture with what is true and what was said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from pipeline.evaluate.pictures import Mistake
from pipeline.marking import Bar
from pipeline.strokes.letters import font, shown

GAP = 16
BETWEEN = 4
CAPTION = 40
HEADING = 40
PAIRS = 12
"""Pairs of pictures on a sheet: it is stored without compression."""
LINE = 24
"""From one bar to the next."""
PAPER, INK, WRONG, FILL, RAIL = "#ffffff", "#1c1917", "#9a3412", "#8fd0c8", "#e4e1da"


def sheet(worst: list[Mistake], errors: int, images: int) -> np.ndarray:
    """Every mistake with its caption: what is true, and below it or beside it what the network said.

    Args:
        worst: what to draw.
        errors: images in all that are not answered perfectly.
        images: N.

    Returns:
        uint8 [H, W, 3].
    """
    paired = any(mistake.answer is not None or mistake.bars for mistake in worst)
    graded = any(mistake.quality % 1 for mistake in worst)
    cell, columns = (240, 2) if paired else (180, 4) if graded else (128, 6)
    worst = worst[:PAIRS] if paired or graded else worst
    wide = 2 * cell + BETWEEN if paired else cell
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
        elif mistake.bars:
            _bars(draw, mistake.bars, (left + cell + BETWEEN, top), (cell, high))
        end = f" (quality {mistake.quality:.2f})" if paired or graded else f" ({mistake.confidence:.0%})"
        said = "\N{RIGHTWARDS ARROW} " + shown(mistake.said)
        if graded and font(13).getlength(said[:200] + end) > wide:  # what is said comes before how good it is
            end = ""
        said = _fitted(said, end, wide)
        draw.text((left, top + high + 4), _fitted(shown(mistake.actual), "", wide), INK, font(13))
        draw.text((left, top + high + 21), said, WRONG, font(13))
    return np.asarray(canvas)


def _bars(draw: ImageDraw.ImageDraw, bars: Sequence[Bar], place: tuple[int, int], room: tuple[int, int]) -> None:
    """Names with their shares, as many as there is room for; a bar below each, darker where it is true."""
    left, top = place[0] + 8, place[1]
    wide = room[0] - 8
    for number, bar in enumerate(bars[: max(1, room[1] // LINE)]):
        y, share = top + number * LINE, min(max(bar.share, 0.0), 1.0)
        end = f"{bar.share:.0%}"
        text = _fitted(shown(bar.name), "", wide - int(font(11).getlength(end)) - 8)
        draw.text((left, y), text, INK, font(11 if not bar.true else 12))
        draw.text((left + wide - font(11).getlength(end), y), end, INK, font(11))
        draw.rectangle([left, y + 15, left + wide, y + 19], fill=RAIL)
        draw.rectangle([left, y + 15, left + round(wide * share), y + 19], fill="#0f766e" if bar.true else FILL)


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
