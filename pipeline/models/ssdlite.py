"""SSDlite: SSD whose convolutions see each channel by itself, at a fraction of the cost.

Source: Sandler et al. MobileNetV2, 2018, section 6.2; Howard et al. Searching for MobileNetV3, 2019, section 6.3;
torchvision's heads, on small backbones and pictures.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from pydantic import Field
from torch import nn

from pipeline.models._detection.ssd import SSD, Maps, SSDConfig

GROUPS = 8


class Config(SSDConfig):
    """Six default boxes at every place of every map: two sizes, and four shapes."""

    width: int = Field(128, ge=32, le=1024, multiple_of=32)
    """Channels of the maps that are coarser than those of the backbone; 512 down to 128 in the paper."""
    nms_iou: float = Field(0.55, gt=0, le=1)
    """Of two boxes of a class that overlap by more, the one with the lower score is dropped."""
    finest: Literal[8, 16] = 8
    """Stride of the finest map; 16 in the paper."""

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the backbone or its weights do not fit, or the pictures are too small.
        """
        from torchvision.models.detection.ssdlite import SSDLiteHead

        maps = Maps(self.wanted(channels, size, self.finest), self.width, self.finest, halved)
        return SSD(self, maps, partial(SSDLiteHead, num_classes=outputs + 1, norm_layer=norm), size)


def norm(width: int) -> nn.Module:
    """Normalisation that works where a map is a single place of a single picture, as that of a batch does not."""
    return nn.GroupNorm(math.gcd(GROUPS, width), width)


def halved(inputs: int, outputs: int) -> nn.Module:
    """Half the channels, half the sides channel by channel, then all: [B, N, H, W] to [B, M, H/2, W/2], rounded up."""
    half = outputs // 2
    return nn.Sequential(
        *(nn.Conv2d(inputs, half, 1, bias=False), norm(half), nn.ReLU6()),
        *(nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half, bias=False), norm(half), nn.ReLU6()),
        *(nn.Conv2d(half, outputs, 1, bias=False), norm(outputs), nn.ReLU6()),
    )
