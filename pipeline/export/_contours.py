"""The edge of some pixels as one polygon, which is filled again to the very same pixels."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

Corner = tuple[int, int]


def contour(inside: np.ndarray) -> list[Corner]:
    """Corners of pixels around bool [h, w], as x and y; even-odd filling gives the same pixels.

    Parts that do not touch, and holes, are joined by ways there and back along edges of pixels, which enclose nothing.
    """
    first, *others = _loops(inside)
    path = list(first)
    for loop in others:
        corner = path[-1][0], loop[0][1]
        path += [corner, *loop, corner, path[-1]]
    return path[:-1]


def _loops(inside: np.ndarray) -> list[list[Corner]]:
    """Closed ways around the pixels, these always to the right, and only corners where they turn."""
    padded = np.pad(inside, 1).astype(np.int8)
    onwards: dict[Corner, list[Corner]] = defaultdict(list)
    for y, x in np.argwhere(np.diff(padded, axis=0)[:, 1:-1]).tolist():  # between rows y - 1 and y of the picture
        ends = (x, y), (x + 1, y)
        start, end = ends if padded[y + 1, x + 1] else ends[::-1]
        onwards[start].append(end)
    for y, x in np.argwhere(np.diff(padded, axis=1)[1:-1]).tolist():
        ends = (x, y), (x, y + 1)
        start, end = ends[::-1] if padded[y + 1, x + 1] else ends
        onwards[start].append(end)
    loops = []
    while onwards:
        start = here = next(iter(onwards))
        loop = [start]
        while True:
            there = onwards[here].pop()
            if not onwards[here]:
                del onwards[here]
            if len(loop) > 1 and _straight(loop[-2], loop[-1], there):
                loop[-1] = there
            else:
                loop.append(there)
            here = there
            if here == start:
                break
        loops.append(loop)
    return loops


def _straight(a: Corner, b: Corner, c: Corner) -> bool:
    return a[0] == b[0] == c[0] or a[1] == b[1] == c[1]
