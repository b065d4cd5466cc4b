"""Masks as sources paint them, made into arrays of class numbers: in the decoding process, on untrusted bytes."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import numpy as np

from pipeline import masks
from pipeline.annotations import Canvas, Flaw, FlawKind, Layer, Painted
from pipeline.images import ImageError, values

UNKNOWN = 254
"""While layers are put together: a pixel whose value is of no class."""
CLEAR = 256
"""Likewise: a pixel through which the layers below are seen."""
SHOWN = 5
"""Values without class that a flaw names."""


def packed(painted: Painted) -> bytes:
    """A painted annotation as bytes to send."""
    names = class_names(painted)
    numbers = {name: number for number, name in enumerate(names)}
    layers = []
    for layer in painted.layers:
        pairs: list[tuple[list[int], int]] = [(_listed(value), numbers[name]) for value, name in layer.classes.items()]
        pairs += [(_listed(value), masks.VOID) for value in layer.void]
        pairs += [(_listed(value), -1) for value in layer.clear]
        layers.append(pairs)
    background = masks.VOID if painted.background is None else numbers[painted.background]
    head = json.dumps([len(names), background, layers, [len(layer.data) for layer in painted.layers]]).encode()
    return struct.pack("<I", len(head)) + head + b"".join(layer.data for layer in painted.layers)


def class_names(painted: Painted) -> list[str]:
    """The classes of a painted annotation, in the order of their numbers."""
    found = {name for layer in painted.layers for name in layer.classes.values()}
    return sorted(found | ({painted.background} if painted.background is not None else set()))


def paint(job: bytes) -> tuple[list[Any], bytes]:
    """Decode and put together all layers.

    Returns:
        [width, height, pixels by number, values without class and their pixels by layer], and the encoded mask; or
        [reason, number of the layer], and nothing.
    """
    (length,) = struct.unpack("<I", job[:4])
    count, background, tables, sizes = json.loads(job[4 : 4 + length])
    if count > UNKNOWN:
        return [f"{count} classes of pixels; {UNKNOWN} can be told apart", 0], b""
    start = 4 + length
    mask: np.ndarray | None = None
    unknown: dict[int, dict[str, int]] = {}
    for number, (table, size) in enumerate(zip(tables, sizes, strict=True)):
        try:
            pixels = values(job[start : start + size])
            coloured = pixels.ndim == 3
            if coloured and not any(len(value) == 3 for value, _ in table):
                return ["in colours; expected one value per pixel", number, "colour"], b""
            told, odd = _told(pixels, table)
        except ImageError as error:
            return [str(error), number], b""
        start += size
        if odd:
            unknown[number] = odd
        if mask is None:
            mask = np.full(told.shape, background, np.uint8)
        if told.shape != mask.shape:
            found = "{} x {}".format(*told.shape[::-1])
            return [
                f"{found} pixels, while the first of its masks has {mask.shape[1]} x {mask.shape[0]}",
                number,
                "size",
            ], b""
        seen = told != CLEAR
        mask[seen] = told[seen].astype(np.uint8)
    assert mask is not None
    mask[mask == UNKNOWN] = masks.VOID
    pixels_of = np.bincount(mask.ravel(), minlength=256)[:count].tolist()
    return [mask.shape[1], mask.shape[0], pixels_of, unknown], masks.encode(mask)


def canvas(painted: Painted, answer: list[Any], mask: bytes) -> Canvas:
    """What the process answered about a painted annotation; without a mask, if it could not be painted."""
    names, source = class_names(painted), painted.layers[0].name
    if isinstance(answer[0], str):
        layer = painted.layers[answer[1]]
        if len(answer) > 2:
            kind = FlawKind.COLOUR_MASK if answer[2] == "colour" else FlawKind.OTHER_SIZE
            return unpainted(Flaw(kind, layer.name, "", answer[0]))
        return unpainted(Flaw(FlawKind.UNREADABLE, layer.name, "", answer[0]))
    width, height, pixels_of, unknown = answer
    flaws = tuple(_unknown(painted.layers[int(number)], odd) for number, odd in unknown.items())
    counts = {name: count for name, count in zip(names, pixels_of, strict=True) if count}
    return Canvas(tuple(names), width, height, hashlib.sha256(mask).hexdigest(), mask, counts, flaws, source)


def unpainted(flaw: Flaw) -> Canvas:
    """What comes of a mask that cannot be painted."""
    return Canvas((), 0, 0, "", b"", {}, (flaw,), flaw.source)


def _told(pixels: np.ndarray, table: list[Any]) -> tuple[np.ndarray, dict[str, int]]:
    """The number of each pixel, `CLEAR` and `UNKNOWN` among them, and how many pixels have each value without class."""
    coloured = pixels.ndim == 3
    known = {
        _code(value): CLEAR if number == -1 else number for value, number in table if (len(value) == 3) == coloured
    }
    if coloured:
        wide = pixels.astype(np.int64)
        codes, where, counts = np.unique(
            wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], return_inverse=True, return_counts=True
        )
        present = zip(codes.tolist(), counts.tolist(), strict=True)
        numbers = np.array([known.get(code, UNKNOWN) for code in codes.tolist()], np.int16)[where]
    else:  # by a table: sorting every pixel takes ten times as long
        tallied = np.bincount(pixels.ravel())
        codes = np.flatnonzero(tallied)
        present = zip(codes.tolist(), tallied[codes].tolist(), strict=True)
        lookup = np.full(len(tallied), UNKNOWN, np.int16)
        lookup[[code for code in known if code < len(tallied)]] = [
            n for code, n in known.items() if code < len(tallied)
        ]
        numbers = lookup[pixels]
    odd = {_named(code, coloured): count for code, count in present if code not in known}
    return numbers.reshape(pixels.shape[:2]), odd


def _unknown(layer: Layer, odd: dict[str, int]) -> Flaw:
    ordered = sorted(odd.items(), key=lambda pair: (-pair[1], pair[0]))
    listed = ", ".join(f"{value} ({count:,} pixels)" for value, count in ordered[:SHOWN])
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return Flaw(FlawKind.UNKNOWN_CLASS, layer.name, "", f"values without a class: {listed}{more}")


def _listed(value: int | tuple[int, int, int]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)


def _code(value: list[int]) -> int:
    return value[0] if len(value) == 1 else value[0] << 16 | value[1] << 8 | value[2]


def _named(code: int, coloured: bool) -> str:
    return f"({code >> 16}, {code >> 8 & 255}, {code & 255})" if coloured else str(code)
