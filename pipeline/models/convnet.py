"""A small residual network for small pictures: the default, quick on a few processor cores.

Source: the basic block of He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition, 2015, in few and narrow
stages. On 32-pixel digits it has 463,594 weights and costs 12 million multiplications a picture.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import ModelConfig, Output

LAST_SIDE = 4
WIDEST = 8


class Config(ModelConfig):
    """Pictures are halved, and seen through twice as many filters, until 4 pixels a side are left."""

    gives: ClassVar[Output] = Output.VECTOR

    width: int = Field(32, ge=1, le=1024)
    """Filters of the first layer; later ones have up to 8 times as many. Twice the width is four times the cost."""
    depth: int = Field(1, ge=0, le=64)
    """Residual blocks, of two convolutions each, after each halving."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the features that the last layer does not get to see in a training step."""
    stride: Literal[1, 2] = 2
    """Of the first layer: 2 halves pictures of more than 16 pixels at once; 1 sees finer detail at 4 times the cost."""

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`. Any size will do; it decides how often the picture is halved."""
        stride = self.stride if size > 16 else 1
        layers: list[nn.Module] = [Conv(channels, self.width, stride), nn.ReLU()]
        width, side = self.width, -(-size // stride)
        while side > LAST_SIDE:
            wider = min(2 * width, WIDEST * self.width)
            layers += [Conv(width, wider, stride=2), nn.ReLU(), *(Residual(wider) for _ in range(self.depth))]
            width, side = wider, -(-side // 2)
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(self.dropout), nn.Linear(width, outputs)]
        return nn.Sequential(*layers, *pooled)


class Conv(nn.Sequential):
    """3 x 3 convolution and batch normalisation: [B, N, H, W] to [B, M, H/stride, W/stride], rounded up."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),  # the normalisation has the bias
            nn.BatchNorm2d(outputs),
        )


class Residual(nn.Module):
    """Two convolutions whose result is added to what came in: [B, N, H, W] to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = Conv(width, width)
        self.second = Conv(width, width)

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        return F.relu(maps + self.second(F.relu(self.first(maps))))
