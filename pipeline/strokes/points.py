"""Named points: a dot each with a dark ring, so that it is seen on any ground; names beside a few of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import ImageDraw

from pipeline.answering import MarkedPoint
from pipeline.strokes.colours import DARK, LIGHT, UNKNOWN, Colour, colour
from pipeline.strokes.letters import Place, meet, shown, sized

RING = 1.25
"""Width of the dark ring in pixels."""
ROOM = 20_000
"""Pixels of the canvas for each point, if they are to be named: names must not hide what they are about."""


class Dot(NamedTuple):
    """A point as it lies on the canvas."""

    x: float
    y: float
    colour: Colour
    name: str


def dots(
    points: Sequence[MarkedPoint], places: Mapping[str, int], size: tuple[int, int], canvas: tuple[int, int]
) -> list[Dot]:
    """The points that lie on the canvas; see `boxes.frames`."""
    scales = np.array(canvas, np.float64) / np.array(size, np.float64)
    found = []
    for point in points:
        with np.errstate(all="ignore"):
            x, y = (np.array(point[:2], np.float64) * scales).tolist()
        if 0 <= x <= canvas[0] and 0 <= y <= canvas[1]:  # nan is neither
            place = places.get(point.name)
            found.append(Dot(x, y, UNKNOWN if place is None else colour(place), point.name))
    return found


def radius(canvas: tuple[int, int]) -> float:
    """Of a dot, in pixels."""
    return float(np.clip(max(canvas) / 80, 1, 6))


def paint(pixels: np.ndarray, dots: Sequence[Dot]) -> np.ndarray:
    """Dots over uint8 [h, w, 3], smooth at their edges."""
    height, width = pixels.shape[:2]
    painted, size = pixels.astype(np.float64), radius((width, height))
    for dot in dots:
        reach = size + RING + 1
        left, right = max(0, int(dot.x - reach)), min(width, int(dot.x + reach) + 1)
        top, bottom = max(0, int(dot.y - reach)), min(height, int(dot.y + reach) + 1)
        across, down = np.arange(left, right) + 0.5 - dot.x, np.arange(top, bottom) + 0.5 - dot.y
        away = np.hypot(across, down[:, None])[:, :, None]
        for colours, end in ((DARK, size + RING), (dot.colour, size)):
            share = np.clip(end + 0.5 - away, 0, 1)
            part = painted[top:bottom, left:right]
            painted[top:bottom, left:right] = part * (1 - share) + np.array(colours) * share
    return painted.round().astype(np.uint8)


def name(draw: ImageDraw.ImageDraw, dots: Sequence[Dot], canvas: tuple[int, int]) -> None:
    """Names to the right or to the left of a few dots, where they fit and hide neither dot nor name."""
    letters, high = sized(canvas)
    reach = radius(canvas) + RING + 1
    taken: list[Place] = [
        (int(dot.x - reach), int(dot.y - reach), int(dot.x + reach) + 1, int(dot.y + reach) + 1) for dot in dots
    ]
    for dot in dots if len(dots) * ROOM <= canvas[0] * canvas[1] else ():
        text = shown(dot.name[:60])
        wide, top = int(letters.getlength(text)) + 4, int(dot.y) - high // 2
        for left in (int(dot.x + reach) + 1, int(dot.x - reach) - wide):
            place = (left, top, left + wide, top + high)
            fits = left >= 0 and place[2] <= canvas[0] and top >= 0 and place[3] <= canvas[1]
            if fits and not any(meet(place, other) for other in taken):
                taken.append(place)
                draw.text((left + 2, top + 1), text, LIGHT, letters, stroke_width=1, stroke_fill=DARK)
                break
