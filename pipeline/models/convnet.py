"""A small residual network for small pictures: the default, quick on a few processor cores.

Source: the basic block of He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition, 2015, in few and narrow
stages. On 32-pixel digits it has 463,594 weights and costs 12 million multiplications a picture.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from pipeline.contracts import Output
from pipeline.models._convnet import Layout, convnet
from pipeline.models._weights import Weighted


class Config(Weighted):
    """Pictures are halved, and seen through twice as many filters, until 4 pixels a side are left."""

    gives: ClassVar[Output] = Output.VECTOR

    width: int = Field(32, ge=1, le=1024)
    """Filters of the first layer; later ones have up to 8 times as many. Twice the width is four times the cost."""
    depth: int = Field(1, ge=0, le=64)
    """Residual blocks, of two convolutions each, after each halving."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the features that the last layer does not get to see in a training step."""
    pooled: bool = True
    """Average over the last maps, so that it does not matter where something is; off for points, where it does."""
    stride: Literal[1, 2] = 2
    """Of the first layer: 2 halves pictures of more than 16 pixels at once; 1 sees finer detail at 4 times the cost."""
    blur: bool = False
    """Blur maps before they are halved (BlurPool), so that a picture moved by a pixel is answered alike; layers that
    halve cost 4 times as much."""
    whitened: bool = False
    """Begin with a layer that is not learnt, but taken from how small patches of the training pictures vary."""

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`. Any size will do; it decides how often the picture is halved."""
        layout = Layout(self.width, self.depth, self.stride, self.pooled, self.blur, self.whitened)
        layers, features = convnet(channels, size, layout)
        return self.started(nn.Sequential(*layers, nn.Dropout(self.dropout), nn.Linear(features, outputs)))
