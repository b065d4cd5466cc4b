"""Masks as sums of a few maps, the prototypes, which every object weighs in its own way.

Source: Bolya, Zhou, Xiao, Lee. YOLACT: Real-time Instance Segmentation, 2019, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models._yolo.head import Tower, flat
from pipeline.models._yolo.layers import ConvNorm


class Prototypes(nn.Module):
    """The finest map of the trunk, [B, N, H, W], to prototypes float32 [B, Q, H', W'] of a finer stride."""

    def __init__(self, inputs: int, width: int, count: int, doublings: int) -> None:
        super().__init__()
        self.entry = ConvNorm(inputs, width, side=3)
        self.finer = nn.ModuleList(ConvNorm(width, width, side=3) for _ in range(doublings))
        self.last = nn.Conv2d(width, count, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        maps = self.entry(maps)
        for finer in self.finer:
            maps = finer(F.interpolate(maps, scale_factor=2.0, mode="nearest"))
        prototypes: Tensor = self.last(maps).float()
        return prototypes


class Coefficients(nn.Module):
    """Maps, the finest first, to how much the object at each place has of each prototype: float32 [B, A, Q]."""

    def __init__(self, widths: Sequence[int], width: int, count: int, depth: int) -> None:
        super().__init__()
        self.entries = nn.ModuleList(ConvNorm(inputs, width) for inputs in widths)
        self.tower = Tower(width, depth, len(widths))
        self.last = nn.Conv2d(width, count, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """See the class."""
        said = [
            flat(self.last(self.tower(entry(each), level)))
            for level, (entry, each) in enumerate(zip(self.entries, maps, strict=True))
        ]
        return torch.cat(said, dim=1).float().tanh()


def within_boxes(maps: Tensor, boxes: Tensor, stride: int, side: int) -> Tensor:
    """Maps as they are at the middles of the m x m cells of boxes, bilinearly.

    Two products of matrices, one for rows and one for columns, since a box stands upright: `grid_sample` would have no
    fixed order of sums on an accelerator.

    Args:
        maps: float32 [n, H, W], one for each box.
        boxes: corners in pixels, float32 [n, 4].
        stride: pixels that a place of the maps is wide.
        side: m.

    Returns:
        float32 [n, m, m].
    """
    cells = (torch.arange(side, device=boxes.device) + 0.5) / side
    weights = []
    for start, end, count in ((boxes[:, 1], boxes[:, 3], maps.shape[1]), (boxes[:, 0], boxes[:, 2], maps.shape[2])):
        at = (start[:, None] + (end - start)[:, None] * cells) / stride - 0.5
        far = at.clamp(0, count - 1)[..., None] - torch.arange(count, device=boxes.device)
        weights.append((1 - far.abs()).clamp(min=0))
    return weights[0] @ maps @ weights[1].transpose(1, 2)
