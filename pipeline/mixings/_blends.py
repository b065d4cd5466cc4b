"""Two ways to blend each picture of a batch with another one, and how much of it stays."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

Mixed = tuple[Tensor, list[tuple[Tensor, float]]]
"""What `MixingConfig.mixed` gives."""


def partners(count: int, random: np.random.Generator) -> int:
    """How many places further on in the batch the partner of each picture stands, 1..count - 1; 0 if it is alone.

    No picture is its own partner, and nothing is indexed, as with a permutation: one number does for the batch.
    """
    return int(random.integers(1, count)) if count > 1 else 0


def faded(pictures: Tensor, targets: Tensor, share: float, shift: int) -> Mixed:
    """Each picture shining through its partner.

    Args:
        pictures: float32 [B, C, S, S].
        targets: B entries.
        share: of the picture itself, in 0..1.
        shift: to the partner.
    """
    both = torch.lerp(pictures.roll(-shift, 0), pictures, share)
    return both, [(targets, share), (targets.roll(-shift, 0), 1 - share)]


def pasted(pictures: Tensor, targets: Tensor, box: tuple[int, int, int, int], shift: int) -> Mixed:
    """Each picture with a rectangle of its partner in it, at the same place in all of them.

    A mask is cut like its picture, and is then the truth of every pixel; of what is said of whole pictures each counts
    by its area.

    Args:
        pictures: float32 [B, C, S, S].
        targets: B entries, or masks [B, S, S].
        box: x1, y1, x2, y2 of the rectangle, in pixels.
        shift: to the partner.
    """
    x1, y1, x2, y2 = box
    both = _pasted(pictures, box, shift)
    if targets.ndim == 3:
        return both, [(_pasted(targets, box, shift), 1.0)]
    share = 1 - (x2 - x1) * (y2 - y1) / (pictures.shape[2] * pictures.shape[3])
    return both, [(targets, share), (targets.roll(-shift, 0), 1 - share)]


def rectangle(width: int, height: int, share: float, random: np.random.Generator) -> tuple[int, int, int, int]:
    """A rectangle of the picture's shape that leaves `share` of it, about a random place, cut off at the edges.

    Source: Yun et al. CutMix, 2019, equation 2 and the authors' code.
    """
    side = math.sqrt(1 - share)
    box = []
    for length in (width, height):
        middle, part = int(random.integers(length)), int(length * side)
        box.append((max(middle - part // 2, 0), min(middle - part // 2 + part, length)))
    (x1, x2), (y1, y2) = box
    return x1, y1, x2, y2


def _pasted(images: Tensor, box: tuple[int, int, int, int], shift: int) -> Tensor:
    x1, y1, x2, y2 = box
    both = images.clone()
    both[..., y1:y2, x1:x2] = images[..., y1:y2, x1:x2].roll(-shift, 0)
    return both
