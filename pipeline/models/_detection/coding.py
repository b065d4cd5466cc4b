"""Boxes as networks with anchors say them: how far the middle lies from that of the anchor, and how much larger it is.

Source: Girshick, Donahue, Darrell, Malik. Rich Feature Hierarchies for Accurate Object Detection, 2014, appendix C. To
the bit torchvision's `BoxCoder`, which sends its factors to the device in every call, and waits for that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = math.log(1000 / 16)
"""A side grows to 62.5 times the anchor's at most, whatever a network says."""


class Coder(NamedTuple):
    """What shares of an anchor's side, and logarithms, are multiplied by."""

    middle: float
    sides: float

    def encoded(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Corners float32 [n, 4], from anchors [n, 4], to codes float32 [n, 4]."""
        middles, sides = _parts(boxes)
        of_anchors, sides_of_anchors = _parts(anchors)
        moved = self.middle * (middles - of_anchors) / sides_of_anchors
        return torch.cat([moved, self.sides * torch.log(sides / sides_of_anchors)], dim=1)

    def decoded(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """Codes float32 [..., 4], from anchors that they can be added to, to corners float32 [..., 4]."""
        middles, sides = _parts(anchors)
        middles = codes[..., :2] / self.middle * sides + middles
        half = 0.5 * (torch.exp(torch.clamp(codes[..., 2:] / self.sides, max=LARGEST)) * sides)
        return torch.cat([middles - half, middles + half], dim=-1)


def _parts(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The middle and the sides of boxes [..., 4]: [..., 2] each."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides
