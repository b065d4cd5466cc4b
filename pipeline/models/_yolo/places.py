"""Where the places of all maps lie, and the way from distances to boxes and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Places(nn.Module):
    """The A places of all maps, the finest map first and each row by row.

    Each lies in the middle of its square of stride x stride pixels.
    """

    middles: Tensor
    """x, y in pixels: float32 [A, 2]."""
    strides: Tensor
    """Of the map of each: float32 [A, 1]."""

    def __init__(self, strides: Sequence[int], sides: Sequence[int]) -> None:
        super().__init__()
        self.of_each_map = [side * side for side in sides]
        middles = []
        for stride, side in zip(strides, sides, strict=True):
            along = (torch.arange(side) + 0.5) * stride
            down, right = torch.meshgrid(along, along, indexing="ij")
            middles.append(torch.stack([right, down], dim=2).flatten(0, 1))
        each = [torch.full((count, 1), float(stride)) for stride, count in zip(strides, self.of_each_map, strict=True)]
        # Derived from the options, so no part of the state.
        self.register_buffer("middles", torch.cat(middles), persistent=False)
        self.register_buffer("strides", torch.cat(each), persistent=False)

    @property
    def squares(self) -> Tensor:
        """float32 [A, 4]."""
        return torch.cat([self.middles - self.strides / 2, self.middles + self.strides / 2], dim=1)

    def decoded(self, distances: Tensor, at: Tensor | None = None) -> Tensor:
        """Left, up, right and down in strides, float32 [..., 4], to corners in pixels; `at`: of which places."""
        middles, strides = (self.middles, self.strides) if at is None else (self.middles[at], self.strides[at])
        return torch.cat([middles - distances[..., :2] * strides, middles + distances[..., 2:] * strides], dim=-1)

    def encoded(self, boxes: Tensor, at: Tensor) -> Tensor:
        """Corners float32 [n, 4] to such distances from places int64 [n]."""
        middles, strides = self.middles[at], self.strides[at]
        return torch.cat([middles - boxes[:, :2], boxes[:, 2:] - middles], dim=1) / strides
