"""Regions of a picture as features of one size, from the map of a pyramid that is made for their size.

Sources: He et al. Mask R-CNN, 2017 (RoIAlign); Lin et al. Feature Pyramid Networks, 2017, equation 1 (which map).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.models._detection.repeatable import aligned

BINS = 7
SAMPLES = 2
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4
"""A region of 224 pixels is seen on the map of stride 2 ** 4."""
SMALL = 1e-6


class Regions(NamedTuple):
    """n regions of a batch."""

    boxes: Tensor
    """Corners in pixels, float32 [n, 4]."""
    pictures: Tensor
    """Which of the batch each is of: int64 [n]."""
    on_maps: Sequence[Tensor]
    """For each map which of them are seen on it, rising: int64."""

    @classmethod
    def of(cls, boxes: Tensor, pictures: Tensor, strides: Sequence[int]) -> Regions:
        """With the maps that they are seen on, of such strides; the device is waited for once."""
        level = levels_of(boxes, strides)
        places = range(len(strides))
        if torch.compiler.is_exporting():
            return cls(boxes, pictures, [(level == place).nonzero()[:, 0] for place in places])
        counts = torch.stack([level == place for place in places]).sum(dim=1).tolist()
        return cls(boxes, pictures, torch.split(level.argsort(stable=True), counts))


def levels_of(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """Which of the maps of such strides, each twice the one before, boxes float32 [..., 4] are seen on: int64 [...]."""
    sides = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1).sqrt()
    finest = strides[0].bit_length() - 1
    level = (CANONICAL_LEVEL + (sides / CANONICAL_SIDE).log2() + SMALL).floor()
    return level.clamp(finest, finest + len(strides) - 1).long() - finest


def features_of(maps: Sequence[Tensor], strides: Sequence[int], regions: Regions, bins: int = BINS) -> Tensor:
    """What lies in each region.

    Args:
        maps: float32 [B, N, S/stride, S/stride], the finest first, each stride twice the one before.
        strides: of the maps.
        regions: n of them.
        bins: a side, of what a region is divided into.

    Returns:
        float32 [n, N, bins, bins].
    """
    from torchvision.ops import roi_align

    rows = torch.cat([regions.pictures[:, None].to(regions.boxes.dtype), regions.boxes], dim=1)
    found = maps[0].new_zeros(rows.shape[0], maps[0].shape[1], bins, bins)
    for each, stride, here in zip(maps, strides, regions.on_maps, strict=True):
        if each.is_cuda and torch.are_deterministic_algorithms_enabled():
            part = aligned(each, rows[here], bins, 1 / stride, SAMPLES)
        else:
            part = roi_align(each, rows[here], bins, spatial_scale=1 / stride, sampling_ratio=SAMPLES)
        found = found.index_copy(0, here, part)
    return found
