"""RoIAlign whose gradient is repeatable on a GPU.

The kernel there adds up gradients in any order: in deterministic mode it raises, or torchvision compiles another way at
the first step, and again for other numbers of regions. Here what one place adds to the gradient is one row, and rows
are added in an order of their own.

Source: He et al. Mask R-CNN, 2017, section 3; at the edges as torchvision's `roi_align` with `aligned=False`.
"""

from __future__ import annotations

import torch
from torch import Tensor

AT_ONCE = 2**26
"""Numbers that are looked up at once: 256 MB."""


def aligned(maps: Tensor, rows: Tensor, bins: int, scale: float, samples: int) -> Tensor:
    """The mean over places of each bin of each region, looked up between the four cells around it.

    Args:
        maps: float [B, C, H, W].
        rows: of n regions the picture and x1, y1, x2, y2, float32 [n, 5].
        bins: a side, of what a region is divided into.
        scale: of the maps to what boxes are told in.
        samples: places a side, of a bin.

    Returns:
        float [n, C, bins, bins].
    """
    channels = maps.shape[1]
    with torch.autocast(maps.device.type, enabled=False):
        cells = maps.float().permute(0, 2, 3, 1).flatten(0, 2)
        portion = max(1, AT_ONCE // (channels * (2 * bins * samples) ** 2))
        found = [_looked_up(cells, maps, part, bins, scale, samples) for part in torch.split(rows, portion)]
    return torch.cat(found).transpose(1, 2).reshape(len(rows), channels, bins, bins).to(maps.dtype)


def _looked_up(cells: Tensor, maps: Tensor, rows: Tensor, bins: int, scale: float, samples: int) -> Tensor:
    """Of some regions, float32 [n, bins * bins, C]."""
    height, width = maps.shape[2:]
    x, across = _between(rows[:, 1], rows[:, 3], width, bins, scale, samples)
    y, down = _between(rows[:, 2], rows[:, 4], height, bins, scale, samples)
    picture = rows[:, 0].long()[:, None, None, None, None]
    places = (picture * height + y[:, :, None, :, None]) * width + x[:, None, :, None, :]
    shares = down[:, :, None, :, None] * across[:, None, :, None, :] / samples**2
    looked_up = cells[places.flatten(3)]
    return (shares.flatten(3)[:, :, :, None] @ looked_up)[:, :, :, 0].flatten(1, 2)


def _between(first: Tensor, last: Tensor, side: int, bins: int, scale: float, samples: int) -> tuple[Tensor, Tensor]:
    """Along one axis the cells on both sides of each place, int64 [n, bins, 2 * samples], and the shares they have."""
    start = first * scale
    step = (last * scale - start).clamp(min=1) / bins
    inner = (torch.arange(samples, device=first.device) + 0.5) / samples
    at = start[:, None, None] + (torch.arange(bins, device=first.device)[:, None] + inner) * step[:, None, None]
    inside = (at >= -1) & (at <= side)
    at = at.clamp(0, side - 1)
    low = at.floor()
    beyond = at - low
    cells = torch.stack([low, (low + 1).clamp(max=side - 1)], dim=-1).long()
    return cells.flatten(2), (torch.stack([1 - beyond, beyond], dim=-1) * inside[..., None]).flatten(2)
