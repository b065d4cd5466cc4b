"""Halving maps after blurring them, so that a picture moved by a pixel is seen as nearly the same.

Source: Zhang. Making Convolutional Networks Shift-Invariant Again, 2019, section 3, with its kernel Triangle-3:
[1, 2, 1] / 4 along each axis.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class BlurPool(nn.Module):
    """Maps [B, N, H, W] to [B, N, H/stride, W/stride], rounded up.

    The kernel is two means of 2 x 2, one after the other, which needs no weights. Beyond the edge the map is taken to
    go on as it is at the edge.
    """

    def __init__(self, channels: int = 0, stride: int = 2, device: Any = None, dtype: Any = None) -> None:
        """All but `stride` is what timm tells an `aa_layer`, and makes no difference here."""
        super().__init__()
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        once = F.avg_pool2d(maps, 2, stride=1, padding=1, count_include_pad=False)
        return F.avg_pool2d(once, 2, stride=self.stride)
