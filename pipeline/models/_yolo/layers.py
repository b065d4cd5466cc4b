"""The layers that body, neck and head are made of.

Sources: Wang et al. CSPNet: A New Backbone that can Enhance Learning Capability of CNN, 2020 (stages of which one half
of the channels passes by); He et al. Spatial Pyramid Pooling in Deep Convolutional Networks, 2015, and Bochkovskiy,
Wang, Liao. YOLOv4, 2020, section 3.4 (pooling at several sizes, without leaving the map); Elfwing, Uchibe, Doya.
Sigmoid-Weighted Linear Units, 2017 (SiLU).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POOLED = 5
"""Side of the smallest square that is pooled; two in a row see 9, three 13, the sizes of YOLOv4."""


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation and SiLU: [B, N, H, W] to [B, M, H/stride, W/stride], rounded up."""

    def __init__(self, inputs: int, outputs: int, side: int = 1, stride: int = 1) -> None:
        conv = nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), nn.SiLU(inplace=True))


class Block(nn.Module):
    """Two convolutions, and what came in beside them: [B, N, H, W] to the same."""

    def __init__(self, width: int, residual: bool) -> None:
        super().__init__()
        self.first = ConvNorm(width, width)
        self.second = ConvNorm(width, width, side=3)
        self.residual = residual

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        seen: Tensor = self.second(self.first(maps))
        return maps + seen if self.residual else seen


class CrossStage(nn.Module):
    """Blocks on one half of the channels, the other half as it is, and both joined: [B, N, H, W] to [B, M, H, W]."""

    def __init__(self, inputs: int, outputs: int, depth: int, residual: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.parting = ConvNorm(inputs, 2 * half)
        self.blocks = nn.Sequential(*(Block(half, residual) for _ in range(depth)))
        self.joining = ConvNorm(2 * half, outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        passed, worked = self.parting(maps).chunk(2, dim=1)
        joined: Tensor = self.joining(torch.cat([passed, self.blocks(worked)], dim=1))
        return joined


class PooledSizes(nn.Module):
    """The largest values of squares of 5, 9 and 13 places beside the map itself: [B, N, H, W] to [B, N, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrowing = ConvNorm(width, width // 2)
        self.joining = ConvNorm(4 * (width // 2), width)

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        pooled = [self.narrowing(maps)]
        for _ in range(3):  # a square of 9 is one of 5 over ones of 5: the same numbers for less work
            pooled.append(F.max_pool2d(pooled[-1], POOLED, stride=1, padding=POOLED // 2))
        joined: Tensor = self.joining(torch.cat(pooled, dim=1))
        return joined
