"""Masks, one class per pixel: how they are kept, and how outlines become pixels.

A mask is uint8 [H, W]: class ids, and 255 where nothing is said (void). It is kept as runs of equal values in row
order, so that equal masks are equal bytes whatever library wrote them: PNGs of one mask differ by zlib.

A pixel belongs to a polygon if its centre does.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

VOID = 255
"""The value of pixels that count for nothing, in learning and in scores."""
MOST_CLASSES = 255
CROWD = 254
"""Likewise of pixels of objects that are learnt one by one: of many of them, or of one of which too little is seen."""
MAGIC = b"RUNS"
LONGEST = 2**16 - 1


def encode(mask: np.ndarray) -> bytes:
    """A mask uint8 [H, W] as bytes: the header, then a value and a length of each run, none longer than 65,535."""
    flat = np.ascontiguousarray(mask, np.uint8).ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size) if flat.size else np.zeros(0, np.int64)
    lengths = np.diff(ends, prepend=0)
    values = flat[ends - 1]
    pieces = np.maximum(-(-lengths // LONGEST), 1)
    values, last = np.repeat(values, pieces), np.cumsum(pieces) - 1
    split = np.full(values.size, LONGEST)
    split[last] = lengths - (pieces - 1) * LONGEST
    head = MAGIC + struct.pack("<III", mask.shape[1], mask.shape[0], values.size)
    return head + values.tobytes() + split.astype("<u2").tobytes()


def decode(data: bytes) -> np.ndarray:
    """The mask that `encode` made bytes of: uint8 [H, W].

    Raises:
        ValueError: they are damaged.
    """
    if data[:4] != MAGIC or len(data) < 16:
        raise ValueError("no mask")
    width, height, count = struct.unpack("<III", data[4:16])
    if len(data) != 16 + 3 * count:
        raise ValueError("a mask that is cut short")
    values = np.frombuffer(data, np.uint8, count, 16)
    lengths = np.frombuffer(data, "<u2", count, 16 + count)
    if int(lengths.sum()) != width * height:
        raise ValueError("a mask whose runs do not fill it")
    return np.repeat(values, lengths).reshape(height, width)


def size(data: bytes) -> tuple[int, int]:
    """Width and height of an encoded mask."""
    width, height = struct.unpack("<II", data[4:12])
    return width, height


def relabelled(data: bytes, table: np.ndarray) -> bytes:
    """An encoded mask with other values: `table` uint8 [256] holds the new value of each."""
    count = struct.unpack("<I", data[12:16])[0]
    values = np.frombuffer(data, np.uint8, count, 16)
    if len(np.unique(table[np.unique(values)])) == len(np.unique(values)):  # runs stay runs
        return data[:16] + table[values].tobytes() + data[16 + count :]
    return encode(table[decode(data)])


def fill(polygons: Sequence[Sequence[float]], width: int, height: int) -> np.ndarray:
    """The pixels whose centres lie in any of the polygons (even-odd rule for each): bool [H, W].

    Args:
        polygons: each x, y, x, y, ... in the plane of `pipeline.boxes`.
        width: W.
        height: H.
    """
    inside = np.zeros((height, width), bool)
    for polygon in polygons:
        corners = np.asarray(polygon, np.float64).reshape(-1, 2)
        _fill_one(inside, corners, width, height)
    return inside


def _fill_one(inside: np.ndarray, corners: np.ndarray, width: int, height: int) -> None:
    """Between the first and the second crossing of a row of pixel centres, the third and the fourth, and so on."""
    starts, ends = corners, np.roll(corners, -1, axis=0)
    first = max(0, int(np.ceil(corners[:, 1].min() - 0.5)))
    last = min(height - 1, int(np.floor(corners[:, 1].max() - 0.5)))
    for row in range(first, last + 1):
        y = row + 0.5
        crossed = (starts[:, 1] <= y) != (ends[:, 1] <= y)
        if not crossed.any():
            continue
        a, b = starts[crossed], ends[crossed]
        crossings = np.sort(a[:, 0] + (y - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0]))
        columns = np.clip(np.ceil(crossings - 0.5), 0, width).astype(np.int64)
        for left, right in zip(columns[::2], columns[1::2], strict=True):
            inside[row, left:right] ^= True


def of_runs(lengths: Sequence[int], width: int, height: int) -> np.ndarray:
    """COCO's uncompressed runs, column by column and background first: bool [H, W].

    Raises:
        ValueError: they do not fill the picture.
    """
    counts = np.asarray(lengths, np.int64)
    if (counts < 0).any() or int(counts.sum()) != width * height:
        raise ValueError(f"runs of {int(counts.sum()):,} pixels; the picture has {width * height:,}")
    inside: np.ndarray = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T
    return inside


def runs_of(inside: np.ndarray) -> list[int]:
    """bool [H, W] as COCO's uncompressed runs: `of_runs` backwards."""
    flat = inside.T.ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)
    lengths = np.diff(ends, prepend=0).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def box_of(inside: np.ndarray) -> tuple[float, float, float, float] | None:
    """The smallest box around the pixels of bool [H, W]; None if there are none."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
