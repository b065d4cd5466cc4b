"""The small residual network that several parts build upon; see `convnet.py`."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

LAST_SIDE = 4
WIDEST = 8


def convnet(
    channels: int, size: int, width: int, depth: int, stride: int, pooled: bool = True
) -> tuple[list[nn.Module], int]:
    """Layers from pictures float32 [B, C, S, S] to features [B, M], and M.

    Args:
        channels: C.
        size: S; it decides how often the picture is halved.
        width: filters of the first layer.
        depth: residual blocks after each halving.
        stride: of the first layer, for pictures of more than 16 pixels.
        pooled: whether the last maps are averaged; else every place in them is a feature.
    """
    stride = stride if size > 16 else 1
    layers: list[nn.Module] = [Conv(channels, width, stride), nn.ReLU()]
    filters, side = width, -(-size // stride)
    while side > LAST_SIDE:
        wider = min(2 * filters, WIDEST * width)
        layers += [Conv(filters, wider, stride=2), nn.ReLU(), *(Residual(wider) for _ in range(depth))]
        filters, side = wider, -(-side // 2)
    ending = [nn.AdaptiveAvgPool2d(1) if pooled else nn.Identity(), nn.Flatten()]
    return [*layers, *ending], filters if pooled else filters * side**2


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
