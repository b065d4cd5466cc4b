"""A feature pyramid: maps of several strides that all know what the coarsest one knows.

Source: Lin et al. Feature Pyramid Networks for Object Detection, 2017; torchvision's.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models._detection.backbones import Wanted, backbone

COARSEST_OF_BODY = 32
SIDE = 4
"""Of the coarsest map, at least."""


class Pyramid(nn.Module):
    """float32 [B, C, S, S] to a list of maps [B, width, S/stride, S/stride], the finest first.

    Strides double from the finest on, as long as four places a side are left.
    """

    def __init__(self, wanted: Wanted, width: int, finest: int, coarser: Literal["convolved", "pooled"]) -> None:
        """`coarser`: how the maps beyond those of the backbone come about: as many as there is room for by
        convolutions, as in RetinaNet, or a single one by leaving out every other place, as in Faster R-CNN."""
        from torchvision.ops import FeaturePyramidNetwork  # late: seconds, and only for those who chose it

        super().__init__()
        strides = [finest]
        while strides[-1] * 2 * SIDE <= wanted.size:
            strides.append(strides[-1] * 2)
        seen = [stride for stride in strides if stride <= COARSEST_OF_BODY]
        self.pooled = coarser == "pooled"
        self.strides = [*seen, 2 * seen[-1]] if self.pooled else strides
        self.body = backbone(wanted, seen)
        widths = [maps.shape[1] for maps in looked(self.body, wanted)]
        self.fpn = FeaturePyramidNetwork(widths, width)
        count = 0 if self.pooled else len(strides) - len(seen)
        self.halvings = nn.ModuleList(halved(width) for _ in range(count))
        self.sides = [maps.shape[-1] for maps in looked(self, wanted)]

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """See the class."""
        maps = self.fpn(OrderedDict((str(level), each) for level, each in enumerate(self.body(pictures))))
        pyramid: list[Tensor] = list(maps.values())
        for index, halving in enumerate(self.halvings):
            pyramid.append(halving(F.relu(pyramid[-1]) if index else pyramid[-1]))
        if self.pooled:
            pyramid.append(F.max_pool2d(pyramid[-1], kernel_size=1, stride=2))
        return pyramid


def halved(width: int) -> nn.Conv2d:
    """A convolution of stride 2, with torchvision's first weights."""
    halving = nn.Conv2d(width, width, 3, stride=2, padding=1)
    nn.init.kaiming_uniform_(halving.weight, a=1)
    assert halving.bias is not None
    nn.init.zeros_(halving.bias)
    return halving


def looked(network: nn.Module, wanted: Wanted) -> list[Tensor]:
    """The maps of two blank pictures; nothing of the network changes."""
    with torch.no_grad():
        maps: list[Tensor] = network.eval()(torch.zeros(2, wanted.channels, wanted.size, wanted.size))
    network.train()
    return maps
