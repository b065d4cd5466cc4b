"""SSD: boxes from default boxes on maps of falling size, in one stage.

Source: Liu et al. SSD: Single Shot MultiBox Detector, 2016; torchvision's heads and default boxes, on small backbones
and pictures.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field
from torch import nn

from pipeline.models._detection.ssd import SSD, Maps, SSDConfig


class Config(SSDConfig):
    """Six default boxes at every place of every map: two sizes, and four shapes."""

    width: int = Field(128, ge=32, le=1024, multiple_of=32)
    """Channels of the maps that are coarser than those of the backbone; 256 in the paper."""
    finest: Literal[8, 16] = 8
    """Stride of the finest map."""

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the backbone or its weights do not fit, or the pictures are too small.
        """
        from torchvision.models.detection.ssd import SSDHead

        maps = Maps(self.wanted(channels, size, self.finest), self.width, self.finest, halved)
        return SSD(self, maps, partial(SSDHead, num_classes=outputs + 1), size)


def halved(inputs: int, outputs: int) -> nn.Module:
    """Half the channels, then half the sides: [B, N, H, W] to [B, M, H/2, W/2], rounded up."""
    layers = (
        nn.Conv2d(inputs, outputs // 2, 1),
        nn.ReLU(),
        nn.Conv2d(outputs // 2, outputs, 3, stride=2, padding=1),
        nn.ReLU(),
    )
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # it has one
    return nn.Sequential(*layers)
