"""Body and neck: from pictures to maps of several strides that all know what the others know.

Sources: Redmon, Farhadi. YOLOv3, 2018, and CSPNet (the body); Lin et al. Feature Pyramid Networks, 2017 (from coarse to
fine); Liu et al. Path Aggregation Network, 2018, section 3.1 (and back from fine to coarse); Tan, Le. EfficientNet,
2019, and Wang et al. Scaled-YOLOv4, 2021 (sizes by multiplying depth and width).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models._detection.backbones import Wanted, backbone
from pipeline.models._detection.pyramid import SIDE, looked
from pipeline.models._detection.weights import load_weights
from pipeline.models._yolo.layers import ConvNorm, CrossStage, PooledSizes

OWN = "own"
STRIDES = (2, 4, 8, 16, 32)
WIDTHS = (64, 128, 256, 512, 1024)
DEPTHS = (0, 3, 9, 9, 3)
NECK_DEPTH = 3


class Scale(NamedTuple):
    """What depths and widths are multiplied by."""

    depth: float
    width: float

    def deep(self, depth: int) -> int:
        """At least one block of those that there are."""
        return max(1, round(depth * self.depth)) if depth else 0

    def wide(self, width: int) -> int:
        """A multiple of 8."""
        return max(8, round(width * self.width / 8) * 8)


SCALES = {"n": Scale(1 / 3, 1 / 4), "s": Scale(1 / 3, 1 / 2), "m": Scale(2 / 3, 3 / 4), "l": Scale(1, 1)}


class Body(nn.Module):
    """[B, C, S, S] to maps of the strides that are asked for; no stage beyond the last of them."""

    def __init__(self, channels: int, scale: Scale, strides: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.strides = tuple(strides)
        width = channels
        for stride, wide, deep in zip(STRIDES, WIDTHS, DEPTHS, strict=True):
            outputs, depth = scale.wide(wide), scale.deep(deep)
            layers: list[nn.Module] = [ConvNorm(width, outputs, side=3, stride=2)]
            layers += [CrossStage(outputs, outputs, depth)] if depth else []
            self.stages.append(nn.Sequential(*layers))
            width = outputs
            if stride == strides[-1]:
                break

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """See the class."""
        maps, given = pictures, []
        for stride, stage in zip(STRIDES, self.stages, strict=False):
            maps = stage(maps)
            if stride in self.strides:
                given.append(maps)
        return given


class Trunk(nn.Module):
    """float32 [B, C, S, S] to a list of maps [B, widths, S/stride, S/stride], rounded up, the finest first.

    Strides double from the finest on, to 32 and as long as four places a side are left.
    """

    def __init__(self, wanted: Wanted, scale: Scale, finest: int) -> None:
        super().__init__()
        self.strides = [finest]
        while self.strides[-1] * 2 <= STRIDES[-1] and self.strides[-1] * 2 * SIDE <= wanted.size:
            self.strides.append(self.strides[-1] * 2)
        self.body = body(wanted, scale, self.strides)
        given = looked(self.body, wanted)
        self.sides = [maps.shape[-1] for maps in given]
        self.widths = [scale.wide(WIDTHS[STRIDES.index(stride)]) for stride in self.strides]
        deep = scale.deep(NECK_DEPTH)
        self.entries = nn.ModuleList(
            nn.Identity() if maps.shape[1] == width else ConvNorm(maps.shape[1], width)
            for maps, width in zip(given, self.widths, strict=True)
        )
        self.pooling = PooledSizes(self.widths[-1])  # no part of the body, whose weights fit pictures of any size
        pairs = list(zip(self.widths, self.widths[1:], strict=False))  # of a fine map and the next coarser one
        self.narrowings = nn.ModuleList(ConvNorm(coarse, fine) for fine, coarse in pairs)
        self.finer = nn.ModuleList(CrossStage(2 * fine, fine, deep, residual=False) for fine, _ in pairs)
        self.halvings = nn.ModuleList(ConvNorm(fine, fine, side=3, stride=2) for fine, _ in pairs)
        self.coarser = nn.ModuleList(CrossStage(2 * fine, coarse, deep, residual=False) for fine, coarse in pairs)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """See the class."""
        maps = [entry(each) for entry, each in zip(self.entries, self.body(pictures), strict=True)]
        maps[-1] = self.pooling(maps[-1])
        narrow: list[Tensor] = []
        for level in reversed(range(len(maps) - 1)):
            narrow.insert(0, self.narrowings[level](maps[level + 1]))
            above = F.interpolate(narrow[0], size=maps[level].shape[-2:], mode="nearest")
            maps[level] = self.finer[level](torch.cat([above, maps[level]], dim=1))
        for level in range(len(maps) - 1):
            below = self.halvings[level](maps[level])
            maps[level + 1] = self.coarser[level](torch.cat([below, narrow[level]], dim=1))
        return maps


def body(wanted: Wanted, scale: Scale, strides: Sequence[int]) -> nn.Module:
    """Our own network, or any that the other detectors see with.

    Raises:
        UserError: the classifier has no map of such a stride, or the weights do not fit.
    """
    if wanted.name != OWN:
        return backbone(wanted, strides)
    own = Body(wanted.channels, scale, strides)
    load_weights(own, wanted.weights, wanted.sha256, set(Body(wanted.channels, scale, STRIDES).state_dict()))
    return own
