"""A narrow residual network for detectors that learn from scratch, in minutes on a few processor cores.

Source: the basic block of He, Zhang, Ren, Sun. Deep Residual Learning for Image Recognition, 2015. With all of its
stages it has 928,784 weights and costs 319 million multiplications for a picture of 256 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (2, 4, 8, 16, 32)
WIDTHS = (16, 32, 64, 128, 128)


class Tiny(nn.Module):
    """[B, C, S, S] to maps of the strides that are asked for; no stage beyond the last of them."""

    def __init__(self, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.strides = tuple(strides)
        width = channels
        for stride, wider in zip(STRIDES, WIDTHS, strict=True):
            self.stages.append(Stage(width, wider, residual=stride > 2))
            width = wider
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


class Stage(nn.Module):
    """Halving, and a residual block: [B, N, H, W] to [B, M, H/2, W/2], rounded up."""

    def __init__(self, inputs: int, outputs: int, residual: bool) -> None:
        super().__init__()
        self.halving = conv(inputs, outputs, stride=2)
        self.first = conv(outputs, outputs) if residual else None
        self.second = conv(outputs, outputs) if residual else None

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        maps = F.relu(self.halving(maps))
        if self.first is None or self.second is None:
            return maps
        return F.relu(maps + self.second(F.relu(self.first(maps))))


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution and batch normalisation: [B, N, H, W] to [B, M, H/stride, W/stride], rounded up."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs))
