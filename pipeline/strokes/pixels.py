"""Pixels that are of a class, or of one object: tinted in the colour of the class, with an outline.

Objects of one class that lie side by side have different shades of its colour, so that each is seen to be one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.annotations import Runs
from pipeline.masks import VOID
from pipeline.strokes.boxes import Frame
from pipeline.strokes.colours import SHADES, colour, shaded

SHARE = 0.45
"""Of a class's colour over the pixels that are of it."""
HATCH = 8
"""Pixels from one stripe over void to the next."""
APART = 3
"""Pixels between two objects from which on they are no neighbours."""


def paint_mask(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A mask of any size over uint8 [h, w, 3]: classes in their colours, darker where another begins; void hatched."""
    height, width = pixels.shape[:2]
    values = mask[_nearest(0, height, height, mask.shape[0])][:, _nearest(0, width, width, mask.shape[1])]
    table = np.array([colour(value) for value in range(256)], np.float64)
    colours, void = table[values], (values == VOID)[:, :, None]
    painted = pixels * (1 - SHARE) + colours * SHARE
    painted = np.where(_edges(values)[:, :, None], colours, painted)
    stripe = ((np.arange(height)[:, None] + np.arange(width)) % HATCH)[:, :, None]
    hatched = np.where(stripe < HATCH // 4, pixels * 0.5 + 127, np.where(stripe < HATCH // 2, pixels * 0.5, pixels))
    return np.where(void, hatched, painted).round().astype(np.uint8)


def paint_objects(pixels: np.ndarray, frames: Sequence[Frame], size: tuple[int, int]) -> tuple[np.ndarray, list[Frame]]:
    """Objects over uint8 [h, w, 3], each on top of those before it; and the frames that remain to be drawn.

    No more is looked at than the box of each: the outlines of hundreds take a moment.

    Args:
        pixels: as they are shown.
        frames: of the objects, the largest first.
        size: width and height of the picture, in whose pixels they are.

    Returns:
        The picture, and the frames of objects whose pixels are not known, are damaged, or are too few to be seen.
    """
    height, width = pixels.shape[:2]
    painted, rest = pixels.copy(), []
    taken = np.full((height + 2 * APART, width + 2 * APART), -1, np.int32)  # colour and shade of each pixel, with a rim
    names: dict[str, int] = {}
    for frame in frames:
        # One pixel more on each side: a box may cut through the pixels at its edge.
        left, top = max(0, frame.left - 1), max(0, frame.top - 1)
        right, bottom = min(width, frame.right + 2), min(height, frame.bottom + 2)
        inside = _shown(frame.box.inside, (left, top, right, bottom), size, (width, height))
        if inside is None or not inside.any():
            rest.append(frame)
            continue
        window = np.s_[top:bottom, left:right]
        code = len(SHADES) * names.setdefault(frame.box.name, len(names))
        around = taken[top : bottom + 2 * APART, left : right + 2 * APART]
        shade = _free(around[_grown(inside, APART)], code)
        around[APART:-APART, APART:-APART][inside] = code + shade
        tint = np.array(shaded(frame.colour, SHADES[shade]), np.float64)
        edge = _rim(inside)
        if frame.box.faint:  # a crowd is striped
            rows, columns = np.arange(top, bottom)[:, None], np.arange(left, right)
            inside = inside & ((rows + columns) % HATCH < HATCH // 2)
        painted[window][inside] = (pixels[window][inside] * (1 - SHARE) + tint * SHARE).round()
        painted[window][edge] = tint.round()
    return painted, rest


def _shown(
    runs: Runs | None, window: tuple[int, int, int, int], size: tuple[int, int], canvas: tuple[int, int]
) -> np.ndarray | None:
    """Which pixels of a part of the canvas an object covers, bool [bottom - top, right - left]; None: nobody knows."""
    if runs is None or (runs.width, runs.height) != size:
        return None
    columns = _nearest(window[0], window[2], canvas[0], size[0])
    rows = _nearest(window[1], window[3], canvas[1], size[1])
    try:
        ends = np.cumsum(np.asarray(runs.lengths, np.int64))
    except (OverflowError, TypeError, ValueError):
        return None
    if not len(ends) or ends[-1] != size[0] * size[1] or (np.diff(ends, prepend=0) < 0).any():
        return None
    first, last = int(columns[0]), int(columns[-1]) + 1
    begin, end = first * runs.height, last * runs.height
    lengths: np.ndarray = np.diff(np.clip(ends, begin, end), prepend=begin)
    strip = np.repeat(np.arange(len(ends)) % 2 == 1, lengths).reshape(last - first, runs.height)
    covered: np.ndarray = strip[columns - first][:, rows].T
    return covered


def _nearest(start: int, end: int, shown: int, of: int) -> np.ndarray:
    """Of pixels start..end of `shown` along an axis, those of the picture, `of` in all, at their centres."""
    return (2 * np.arange(start, end) + 1) * of // (2 * shown)


def _free(near: np.ndarray, code: int) -> int:
    """The first shade that no neighbour of the class has; if all are taken, the one that the fewest pixels have."""
    count = np.bincount(near[(near >= code) & (near < code + len(SHADES))] - code, minlength=len(SHADES))
    return int(count.argmin())


def _grown(inside: np.ndarray, by: int) -> np.ndarray:
    """Pixels at most so many rows and columns away, bool [h + 2 by, w + 2 by]."""
    height, width = inside.shape
    wide = np.zeros((height, width + 2 * by), bool)
    for shift in range(2 * by + 1):
        wide[:, shift : shift + width] |= inside
    grown = np.zeros((height + 2 * by, width + 2 * by), bool)
    for shift in range(2 * by + 1):
        grown[shift : shift + height] |= wide
    return grown


def _rim(inside: np.ndarray) -> np.ndarray:
    """Pixels with a neighbour above, below, to the left or to the right that is outside; bool [h, w]."""
    core = inside.copy()
    core[1:] &= inside[:-1]
    core[:-1] &= inside[1:]
    core[:, 1:] &= inside[:, :-1]
    core[:, :-1] &= inside[:, 1:]
    core[[0, -1]] = False
    core[:, [0, -1]] = False
    rim: np.ndarray = inside & ~core
    return rim


def _edges(values: np.ndarray) -> np.ndarray:
    """Where a neighbour above, below, to the left or to the right is of another class: bool [h, w]."""
    edges = np.zeros(values.shape, bool)
    down, right = values[1:] != values[:-1], values[:, 1:] != values[:, :-1]
    edges[1:] |= down
    edges[:-1] |= down
    edges[:, 1:] |= right
    edges[:, :-1] |= right
    return edges
