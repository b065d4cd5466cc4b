"""Regions of a picture as features of one size, from the map of a pyramid that is made for their size.

Sources: He et al. Mask R-CNN, 2017 (RoIAlign); Lin et al. Feature Pyramid Networks, 2017, equation 1 (which map).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BINS = 7
SAMPLES = 2
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4
"""A region of 224 pixels is seen on the map of stride 2 ** 4."""
SMALL = 1e-6


def regions_of(
    maps: Sequence[Tensor], strides: Sequence[int], regions: Tensor, pictures: Tensor, bins: int = BINS
) -> Tensor:
    """What lies in each region.

    Args:
        maps: float32 [B, N, S/stride, S/stride], the finest first, each stride twice the one before.
        strides: of the maps.
        regions: corners in pixels, float32 [n, 4].
        pictures: which of the batch each region is of, int64 [n].
        bins: a side, of what a region is divided into.

    Returns:
        float32 [n, N, bins, bins].
    """
    from torchvision.ops import roi_align

    sides = (regions[:, 2:] - regions[:, :2]).prod(dim=1).sqrt()
    finest = strides[0].bit_length() - 1
    level = (CANONICAL_LEVEL + (sides / CANONICAL_SIDE).log2() + SMALL).floor()
    level = level.clamp(finest, finest + len(maps) - 1).long() - finest
    rows = torch.cat([pictures[:, None].to(regions.dtype), regions], dim=1)
    found = maps[0].new_zeros(regions.shape[0], maps[0].shape[1], bins, bins)
    for index, (each, stride) in enumerate(zip(maps, strides, strict=True)):
        (here,) = (level == index).nonzero(as_tuple=True)
        part = roi_align(each, rows[here], bins, spatial_scale=1 / stride, sampling_ratio=SAMPLES)
        found = found.index_copy(0, here, part)
    return found
