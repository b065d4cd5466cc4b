"""Objects of a map that says which one each of its pixels is of: a box around each, and its mask within any box.

A mask within a box is divided into m x m cells, as Mask R-CNN has it (He et al. 2017); of a cell is told which share
of four places in it lies on the object. A pixel is a square here and not a point, so that a mask that is put back in
its place is where it was: torchvision's `project_masks_on_boxes` moves it by half a pixel.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.masks import CROWD, VOID

LEAST = 4
"""Pixels of an object: of one that less is seen of, after a picture was cut or turned, nothing is learnt."""
SAMPLES = 2
"""Places in a cell, along each side."""


class Mapped(NamedTuple):
    """The objects of a batch."""

    rows: Tensor
    """x1, y1, x2, y2, class id, crowd: float32 [B, M, 6]. The number of an object is that of its row, class -1 where
    no pixel has that number."""
    numbers: Tensor
    """Of each pixel the number of its object, or -1: int64 [B, H, W]."""


def objects_of_map(maps: Tensor) -> Mapped:
    """What is in maps uint8 [B, H, W, 3]: see `contracts.Target.INSTANCES`, and `packed.packed_instances`."""
    batch = len(maps)
    classes, lower, upper = maps.long().unbind(dim=3)
    numbers = torch.where(classes == VOID, -1, lower + 256 * upper)
    there = numbers >= 0
    # The device is waited for here alone: from the two numbers follow all shapes.
    most, count = torch.stack([numbers.amax() + 1, there.sum()]).tolist() if numbers.numel() else (0, 0)
    picture, row, column = torch.nonzero_static(there, size=count).unbind(dim=1)
    place = picture * most + numbers[picture, row, column]
    pixels = place.new_zeros(batch * most).scatter_add(0, place, torch.ones_like(place))

    def extreme(values: Tensor, kind: str) -> Tensor:
        return values.new_zeros(batch * most).scatter_reduce(0, place, values, kind, include_self=False)

    kinds = extreme(classes[picture, row, column], "amax")
    crowd = (kinds == CROWD) | (pixels < LEAST)
    kinds = torch.where(pixels == 0, -1, torch.where(kinds == CROWD, 0, kinds))
    corners = extreme(column, "amin"), extreme(row, "amin"), extreme(column, "amax") + 1, extreme(row, "amax") + 1
    rows = torch.stack([*corners, kinds, crowd.long()], dim=1).float()
    return Mapped(rows.view(batch, most, 6), numbers)


def masks_in_boxes(numbers: Tensor, objects: Tensor, boxes: Tensor, pictures: Tensor, side: int) -> Tensor:
    """The masks of objects, each within a box, which need not be its own.

    Args:
        numbers: as `Mapped` has them, int64 [B, H, W].
        objects: of which a mask is wanted, by number: int64 [n].
        boxes: float32 [n, 4].
        pictures: which of the batch each is of, int64 [n].
        side: m.

    Returns:
        float32 [n, m, m], shares.
    """
    (height, width), count = numbers.shape[1:], side * SAMPLES
    steps = (torch.arange(count, device=boxes.device) + 0.5) / count
    x = boxes[:, None, 0] + (boxes[:, 2] - boxes[:, 0])[:, None] * steps
    y = boxes[:, None, 1] + (boxes[:, 3] - boxes[:, 1])[:, None] * steps
    columns, rows = x.long().clamp(0, width - 1), y.long().clamp(0, height - 1)
    seen = numbers[pictures[:, None, None], rows[:, :, None], columns[:, None, :]]
    on = (seen == objects[:, None, None]).float()
    return on.view(-1, side, SAMPLES, side, SAMPLES).mean(dim=(2, 4))
