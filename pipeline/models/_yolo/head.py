"""The head: what is at each place of each map, by two towers, one for its class and one for how far its sides are.

Sources: Ge et al. YOLOX, 2021, section 2 (two towers, no anchors); Tian et al. FCOS, 2020 (the four distances); Li et
al. Generalized Focal Loss, 2020, section 3 (each distance as a distribution over whole numbers of strides); Lyu et al.
RTMDet, 2022, section 3.2 (towers that all maps share, but for their normalisation); Lin et al. Focal Loss, 2017,
section 4.1 (first scores that call nearly everything background).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models._yolo.layers import ConvNorm

FIRST_SCORE = 0.01
FIRST_DISTANCE, FIRST_SPREAD = 2.0, 1.0
"""Of the distances before anything is learnt, in strides: boxes of four strides, for which the maps are meant."""


class Tower(nn.Module):
    """Convolutions that all maps share, with a normalisation for each: [B, N, H, W] to [B, N, H, W]."""

    def __init__(self, width: int, depth: int, maps: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(depth))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(width) for _ in range(maps)) for _ in range(depth))

    def forward(self, maps: Tensor, level: int) -> Tensor:
        """See the class; `level`: which of the maps it is."""
        for conv, norms in zip(self.convs, self.norms, strict=True):
            maps = F.silu(norms[level](conv(maps)))  # type: ignore[index]
        return maps


class Head(nn.Module):
    """Maps, the finest first, to what is thought at each of their A places.

    Logits of the classes, float32 [B, A, K], and of how far left, up, right and down are, float32 [B, A, 4, R].
    """

    def __init__(self, widths: Sequence[int], width: int, outputs: int, bins: int, depth: int) -> None:
        super().__init__()
        self.width, self.bins = width, bins
        self.entries = nn.ModuleList(ConvNorm(inputs, width) for inputs in widths)
        self.class_tower = Tower(width, depth, len(widths))
        self.box_tower = Tower(width, depth, len(widths))
        self.classes = nn.Conv2d(width, outputs, 1)
        self.sides = nn.Conv2d(width, 4 * bins, 1)
        assert self.classes.bias is not None and self.sides.bias is not None
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.constant_(self.classes.bias, math.log(FIRST_SCORE / (1 - FIRST_SCORE)))
        nn.init.normal_(self.sides.weight, std=0.01)
        first = -((torch.arange(bins) - FIRST_DISTANCE) ** 2) / (2 * FIRST_SPREAD**2)
        with torch.no_grad():
            self.sides.bias.copy_(first.repeat(4))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """See the class."""
        logits, sides = [], []
        for level, each in enumerate(maps):
            seen = self.entries[level](each)
            logits.append(flat(self.classes(self.class_tower(seen, level))))
            sides.append(flat(self.sides(self.box_tower(seen, level))))
        every = torch.cat(sides, dim=1).float()
        return torch.cat(logits, dim=1).float(), every.view(*every.shape[:2], 4, self.bins)


def flat(maps: Tensor) -> Tensor:
    """[B, N, H, W] to [B, H * W, N], row by row."""
    return maps.flatten(2).transpose(1, 2)
