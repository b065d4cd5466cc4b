"""What of a picture a network sees: squares that are cut out of it, and the way back from them.

Each view is a rectangle of the picture, shown as a square of P x P pixels, so every place in it is a place in the
picture by one linear map per axis: u = (x - x1) * P / (x2 - x1). Crop, pad, stretch and tiles differ in their
rectangles and in nothing else. Places are those of `pipeline.boxes`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pipeline.contracts import Frame, Views


class Region(NamedTuple):
    """A rectangle of a picture; it may reach beyond it to the right and below."""

    x1: float
    y1: float
    x2: float
    y2: float


def regions(frame: Frame, width: int, height: int, side: int) -> list[Region]:
    """The rectangles of one picture of `width` x `height` that a network of P = `side` sees."""
    if frame.name == "stretch":
        return [Region(0, 0, width, height)]
    if frame.name == "pad":
        longer = max(width, height)
        return [Region(0, 0, longer, longer)]
    if frame.name == "tiles":
        tile = frame.tile or side
        columns, rows = (_starts(length, tile, frame.overlap) for length in (width, height))
        return [Region(x, y, x + tile, y + tile) for y in rows for x in columns]
    shorter = min(width, height)
    left, top = (width - shorter) // 2, (height - shorter) // 2
    return [Region(left, top, left + shorter, top + shorter)]


def views(frame: Frame, sizes: np.ndarray, side: int) -> Views:
    """The views of N pictures, int64 [N, 2] of width and height."""
    found = [regions(frame, int(width), int(height), side) for width, height in sizes]
    images = np.repeat(np.arange(len(found)), [len(of_one) for of_one in found])
    flat = np.array([region for of_one in found for region in of_one], np.float64).reshape(-1, 4)
    return Views(images, flat, np.asarray(sizes, np.int64).reshape(-1, 2), side)


def scale(region: np.ndarray, side: int) -> np.ndarray:
    """Pixels of the view per pixel of the picture along x and y: float64 [2]."""
    per_pixel: np.ndarray = side / (region[2:] - region[:2])
    return per_pixel


def boxes_into(boxes: np.ndarray, region: np.ndarray, side: int) -> np.ndarray:
    """Boxes [..., 4] of the picture as they lie in the view; nothing is cut."""
    moved: np.ndarray = (boxes - np.tile(region[:2], 2)) * np.tile(scale(region, side), 2)
    return moved


def boxes_back(boxes: np.ndarray, region: np.ndarray, side: int) -> np.ndarray:
    """Boxes [..., 4] of the view as they lie in the picture."""
    moved: np.ndarray = boxes / np.tile(scale(region, side), 2) + np.tile(region[:2], 2)
    return moved


def points_into(places: np.ndarray, region: np.ndarray, side: int) -> np.ndarray:
    """Points [..., 2] of the picture as they lie in the view."""
    moved: np.ndarray = (places - region[:2]) * scale(region, side)
    return moved


def points_back(places: np.ndarray, region: np.ndarray, side: int) -> np.ndarray:
    """Points [..., 2] of the view as they lie in the picture."""
    moved: np.ndarray = places / scale(region, side) + region[:2]
    return moved


def mask_into(mask: np.ndarray, region: np.ndarray, side: int, void: int) -> np.ndarray:
    """A mask [H, W] as it lies in the view: each pixel is that of the picture at its centre, or `void`."""
    columns, inside_x = _nearest(region[0], region[2], side, mask.shape[1])
    rows, inside_y = _nearest(region[1], region[3], side, mask.shape[0])
    shown = mask[rows[:, None], columns[None, :]]
    seen: np.ndarray = np.where(inside_y[:, None] & inside_x[None, :], shown, mask.dtype.type(void))
    return seen


def maps_back(maps: np.ndarray, region: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """Maps of a view at the pixels of its picture, interpolated linearly between the centres of the view's pixels.

    Args:
        maps: float [K, P, P].
        region: that the view shows.
        window: left, top, right and bottom of the wanted pixels of the picture.

    Returns:
        float [K, bottom - top, right - left].
    """
    side = maps.shape[-1]
    low_x, high_x, share_x = _between(region[0], region[2], side, window[0], window[2])
    low_y, high_y, share_y = _between(region[1], region[3], side, window[1], window[3])
    first, last = low_y.min(initial=side), high_y.max(initial=-1) + 1
    seen = maps[:, first:last]  # a band of the picture needs no others
    wide = seen[:, :, low_x] * (1 - share_x) + seen[:, :, high_x] * share_x
    tall: np.ndarray = wide[:, low_y - first] * (1 - share_y)[:, None] + wide[:, high_y - first] * share_y[:, None]
    return tall


def windows(of_one: np.ndarray, width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Which pixels of the picture each of its views answers for: the ones nearest to its middle, and each pixel once.

    The margins of a tile are seen with less around them than its middle: the overlap-tile strategy of Ronneberger,
    Fischer, Brox. U-Net, 2015, section 2.

    Args:
        of_one: regions of the views of one picture, float64 [v, 4], on a grid.
        width: W of the picture.
        height: H.

    Returns:
        left, top, right, bottom of each.
    """
    columns = _bounds(np.unique(of_one[:, 0]), of_one[0, 2] - of_one[0, 0], width)
    rows = _bounds(np.unique(of_one[:, 1]), of_one[0, 3] - of_one[0, 1], height)
    return [(columns[x][0], rows[y][0], columns[x][1], rows[y][1]) for x, y, _, _ in of_one.tolist()]


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along one axis: evenly, the last one ends with the picture."""
    if length <= tile:
        return [0]
    count = math.ceil((length - tile) / max(1.0, tile * (1 - overlap)) - 1e-9) + 1
    return [round(place) for place in np.linspace(0, length - tile, count).tolist()]


def _bounds(starts: np.ndarray, span: float, length: int) -> dict[float, tuple[int, int]]:
    middles = starts + span / 2
    ends = [0, *np.floor((middles[:-1] + middles[1:]) / 2).astype(int).tolist(), length]
    return {start: (ends[k], ends[k + 1]) for k, start in enumerate(starts.tolist())}


def _nearest(start: float, end: float, side: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    places = start + (np.arange(side) + 0.5) * ((end - start) / side)
    inside = (places >= 0) & (places < length)
    return np.clip(np.floor(places), 0, length - 1).astype(np.int64), inside


def _between(start: float, end: float, side: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels of the view around the centre of each pixel of the picture, and the share of the second."""
    places = (np.arange(first, last) + 0.5 - start) * (side / (end - start)) - 0.5
    low = np.clip(np.floor(places), 0, side - 1).astype(np.int64)
    share = np.clip(places - low, 0, 1).astype(np.float32)
    return low, np.minimum(low + 1, side - 1), share
