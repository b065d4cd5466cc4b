"""Boxes: lines around what they hold, and names beside them where there is room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import ImageDraw

from pipeline.answering import MarkedBox
from pipeline.strokes.colours import DARK, UNKNOWN, Colour, colour, ink
from pipeline.strokes.letters import Place, meet, shown, sized

DASH = 6
SHADOW = 110
"""Of 255, the opacity of what is dark around a line."""
NAMED = 100
"""Boxes at most that a picture names, and"""
ROOM = 4000
"""pixels of the canvas for each: names must not hide what they are about."""
CROWDED = 40
"""Boxes from which on their lines are thin."""


class Frame(NamedTuple):
    """A box as it lies on the canvas."""

    left: int
    top: int
    right: int
    bottom: int
    """All four are pixels of the box."""
    colour: Colour
    box: MarkedBox

    @property
    def area(self) -> int:
        """In pixels of the canvas."""
        return (self.right - self.left + 1) * (self.bottom - self.top + 1)


def frames(
    boxes: Sequence[MarkedBox], places: Mapping[str, int], size: tuple[int, int], canvas: tuple[int, int]
) -> list[Frame]:
    """The boxes that can be seen, the largest first, so that none hides another.

    Args:
        boxes: in pixels of the picture; one that is none, or lies outside, is passed over.
        places: of the classes, by name.
        size: width and height of the picture.
        canvas: width and height at which it is shown.
    """
    limits = np.array([*canvas, *canvas], np.float64)
    found = []
    for box in boxes:
        with np.errstate(all="ignore"):
            corners = np.array(box.box, np.float64) * limits / np.array([*size, *size], np.float64)
        if not np.isfinite(corners).all():
            continue
        low, high = np.minimum(corners[:2], corners[2:]), np.maximum(corners[:2], corners[2:])
        if (low >= limits[:2]).any() or (high <= 0).any():
            continue
        left, top = np.floor(np.maximum(low, 0)).astype(int).tolist()
        right, bottom = (np.ceil(np.minimum(high, limits[:2])) - 1).astype(int).tolist()
        place = places.get(box.name)
        line = UNKNOWN if place is None else colour(place)
        found.append(Frame(left, top, max(left, right), max(top, bottom), line, box))
    return sorted(found, key=lambda frame: -frame.area)


def outline(draw: ImageDraw.ImageDraw, frame: Frame, thick: int) -> None:
    """A line in the class's colour with a dark one around it, so that it is seen on any ground; of a crowd dashes."""
    left, top, right, bottom = frame[:4]
    if frame.box.faint:
        draw.rectangle([left, top, right, bottom], outline=DARK)
        for x in range(left, right + 1, DASH):
            end = min(x + DASH // 2, right)
            draw.line([(x, top), (end, top)], frame.colour)
            draw.line([(x, bottom), (end, bottom)], frame.colour)
        for y in range(top, bottom + 1, DASH):
            end = min(y + DASH // 2, bottom)
            draw.line([(left, y), (left, end)], frame.colour)
            draw.line([(right, y), (right, end)], frame.colour)
        return
    if min(right - left, bottom - top) > 8 * thick:
        draw.rectangle([left - 1, top - 1, right + 1, bottom + 1], outline=(*DARK, SHADOW))
    draw.rectangle([left, top, right, bottom], outline=frame.colour, width=thick)


def name(draw: ImageDraw.ImageDraw, frames: Sequence[Frame], canvas: tuple[int, int]) -> None:
    """Class and score above each box, or in it, where they fit and hide no others."""
    letters, high = sized(canvas)
    most = min(NAMED, max(1, canvas[0] * canvas[1] // ROOM))
    taken: list[Place] = []
    for frame in frames:
        for text in _texts(frame.box) if len(taken) < most else ():
            wide = int(letters.getlength(text)) + 4
            left = min(frame.left, canvas[0] - wide)
            top = frame.top - high if frame.top >= high else frame.top
            place = (left, top, left + wide, top + high)
            fits = left >= 0 and place[3] <= canvas[1] and wide <= 1.4 * (frame.right - frame.left)
            if fits and not any(meet(place, other) for other in taken):
                taken.append(place)
                draw.rectangle([place[0], place[1], place[2] - 1, place[3] - 1], fill=frame.colour)
                draw.text((left + 2, top + 1), text, ink(frame.colour), letters)
                break


def _texts(box: MarkedBox) -> tuple[str, ...]:
    """What could be written beside it, the longest first."""
    text = shown(box.name[:60])
    if box.faint:
        return ()
    return (text,) if box.score is None or not np.isfinite(box.score) else (f"{text} {box.score:.0%}", text)
