"""The values of masks, as they go to the decoding process, and what is said of those that mean nothing."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.annotations import Flaw, FlawKind

SHOWN = 5
"""Values without class that a flaw names."""


def framed(head: Any, layers: Sequence[bytes]) -> bytes:
    """What the values of masks mean, as JSON values, and the masks, as bytes to send."""
    about = json.dumps([head, [len(layer) for layer in layers]]).encode()
    return struct.pack("<I", len(about)) + about + b"".join(layers)


def unframed(job: bytes) -> tuple[Any, list[bytes]]:
    """`framed` backwards."""
    (length,) = struct.unpack("<I", job[:4])
    start = 4 + length
    head, sizes = json.loads(job[4:start])
    layers = []
    for size in sizes:
        layers.append(job[start : start + size])
        start += size
    return head, layers


def listed(value: int | tuple[int, int, int]) -> list[int]:
    """A value as JSON holds it: of one number, or of three."""
    return [value] if isinstance(value, int) else list(value)


def codes(pixels: np.ndarray) -> np.ndarray:
    """One number of each pixel: its value [H, W] or [1], or that of a colour [H, W, 3] or [3]: int [H, W] or [1]."""
    if pixels.shape[-1:] == (3,) and pixels.ndim in (1, 3):
        wide = pixels.astype(np.int32)
        return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return pixels


def shown(code: int, coloured: bool) -> str:
    """A value as a person reads it."""
    return f"({code >> 16}, {code >> 8 & 255}, {code & 255})" if coloured else str(code)


def unknown(layer: str, odd: Mapping[str, int]) -> Flaw:
    """The flaw of a mask with values without class, of which so many pixels are."""
    ordered = sorted(odd.items(), key=lambda pair: (-pair[1], pair[0]))
    told = ", ".join(f"{value} ({count:,} pixels)" for value, count in ordered[:SHOWN])
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return Flaw(FlawKind.UNKNOWN_CLASS, layer, "", f"values without a class: {told}{more}")
