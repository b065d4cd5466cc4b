"""How far two boxes are apart, by how much they overlap.

Sources: Rezatofighi et al. Generalized Intersection over Union, 2019 (GIoU); Zheng et al. Distance-IoU Loss, 2020,
equations 7 and 10 (DIoU, CIoU). torchvision has the same; its CIoU has no slope at a box without height, which a
network may say.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

SMALL = 1e-7

Overlap = Literal["giou", "diou", "ciou"]


def overlap_loss(said: Tensor, true: Tensor, kind: Overlap) -> Tensor:
    """What each box costs: 0 where it is the true one, up to 2 or, for CIoU, a little more.

    Args:
        said: corners, float32 [n, 4]; a side may be 0.
        true: corners, float32 [n, 4], with an area.
        kind: what is added to 1 - IoU: of the smallest box around both the share that neither covers (`giou`); the
            distance of the middles, as a share of that box's diagonal, both squared (`diou`); that and how much the
            proportions differ (`ciou`).

    Returns:
        float32 [n].
    """
    sides, true_sides = said[:, 2:] - said[:, :2], true[:, 2:] - true[:, :2]
    common = (
        (torch.minimum(said[:, 2:], true[:, 2:]) - torch.maximum(said[:, :2], true[:, :2])).clamp(min=0).prod(dim=1)
    )
    union = sides.prod(dim=1) + true_sides.prod(dim=1) - common
    iou = common / (union + SMALL)
    around = torch.maximum(said[:, 2:], true[:, 2:]) - torch.minimum(said[:, :2], true[:, :2])
    if kind == "giou":
        area = around.prod(dim=1)
        return 1 - iou + (area - union) / (area + SMALL)
    apart = ((said[:, :2] + said[:, 2:] - true[:, :2] - true[:, 2:]) / 2).square().sum(dim=1)
    loss = 1 - iou + apart / (around.square().sum(dim=1) + SMALL)
    return loss if kind == "diou" else loss + _proportions(sides, true_sides, iou)


def _proportions(sides: Tensor, true_sides: Tensor, iou: Tensor) -> Tensor:
    # atan2 has a slope where the height is 0, and atan of the quotient has none; the floor keeps it from 0, 0.
    angles = torch.atan2(sides[:, 0], sides[:, 1].clamp(min=SMALL))
    difference = 4 / math.pi**2 * (torch.atan2(true_sides[:, 0], true_sides[:, 1]) - angles).square()
    weight = (difference / (1 - iou + difference + SMALL)).detach()
    return weight * difference
