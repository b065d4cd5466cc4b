"""The small residual network that several parts build upon; see `convnet.py`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models._blur import BlurPool
from pipeline.models._whitening import Whitening

LAST_SIDE = 4
WIDEST = 8


@dataclass(frozen=True)
class Layout:
    """What such a network is made of."""

    width: int
    """Filters of the first layer."""
    depth: int
    """Residual blocks after each halving."""
    stride: int = 2
    """Of the first layer, for pictures of more than 16 pixels."""
    pooled: bool = True
    """Whether the last maps are averaged; else every place in them is a feature."""
    blur: bool = False
    """Whether maps are blurred before they are halved."""
    whitened: bool = False
    """Whether the first layer comes after one that whitens patches."""


def convnet(channels: int, size: int, layout: Layout) -> tuple[list[nn.Module], int]:
    """Layers from pictures float32 [B, C, S, S] to features [B, M], and M.

    Args:
        channels: C.
        size: S; it decides how often the picture is halved.
        layout: of the layers.
    """
    stride = layout.stride if size > 16 else 1
    layers: list[nn.Module] = []
    if layout.whitened:
        whitening = Whitening(channels)
        layers += [whitening, nn.ReLU()]
        channels, size = len(whitening.filters), size - 1
    layers += _step(channels, layout.width, stride, layout.blur)
    filters, side = layout.width, -(-size // stride)
    while side > LAST_SIDE:
        wider = min(2 * filters, WIDEST * layout.width)
        layers += [*_step(filters, wider, 2, layout.blur), *(Residual(wider) for _ in range(layout.depth))]
        filters, side = wider, -(-side // 2)
    ending = [nn.AdaptiveAvgPool2d(1) if layout.pooled else nn.Identity(), nn.Flatten()]
    return [*layers, *ending], filters if layout.pooled else filters * side**2


def _step(inputs: int, outputs: int, stride: int, blur: bool) -> list[nn.Module]:
    """A convolution and what is kept of its maps: every `stride`-th pixel, of blurred maps if told."""
    if blur and stride > 1:
        return [Conv(inputs, outputs), nn.ReLU(), BlurPool(outputs, stride)]
    return [Conv(inputs, outputs, stride), nn.ReLU()]


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
