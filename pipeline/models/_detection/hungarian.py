"""Which query answers for which object: one each, so that the costs of all pairs together are least.

Source: Carion et al. End-to-End Object Detection with Transformers, 2020, equation 1; the cost of a class is that of
Zhu et al. Deformable DETR, 2021: what the focal loss would gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.models._detection.matching import Truth, in_crowd
from pipeline.networks import BACKGROUND, IGNORED

ALPHA, GAMMA, SMALLEST, WORST = 0.25, 2.0, 1e-8, 1e6


class Rules(NamedTuple):
    """How queries are assigned."""

    side: int
    """Of the pictures, in pixels."""
    group: int
    """Queries of a group: in each of them every object has one."""
    classes: float
    """What the cost of the class of a pair is multiplied by."""
    l1: float
    """Likewise of the difference of x, y, width and height, in shares of the picture."""
    giou: float


class Assigned(NamedTuple):
    """The queries at an object, n among the B x A of a batch."""

    labels: Tensor
    """Of every query: int64 [B, A], with BACKGROUND and IGNORED."""
    places: Tensor
    """Positions among B x A: int64 [n]."""
    boxes: Tensor
    """True ones, as corners in shares of the picture: float32 [n, 4]."""


@torch.no_grad()
def assigned(logits: Tensor, boxes: Tensor, truth: Sequence[Truth], rules: Rules) -> Assigned:
    """Give every object one query of each group; if it has fewer queries than there are objects, some have none.

    Args:
        logits: float32 [B, A, K].
        boxes: x, y, width and height in shares of the picture, float32 [B, A, 4].
        truth: of each picture, in pixels.
        rules: A is a multiple of `rules.group`.
    """
    from scipy.optimize import linear_sum_assignment

    labels = torch.full(logits.shape[:2], BACKGROUND, dtype=torch.int64, device=logits.device)
    places, true_boxes = [labels.new_zeros(0)], [boxes.new_zeros(0, 4)]
    for picture, true in enumerate(truth):
        said, aims = corners(boxes[picture]), true.boxes / rules.side
        labels[picture][in_crowd(said, true.crowds / rules.side)] = IGNORED
        costs = _costs(logits[picture], said, true.classes, aims, rules).cpu().numpy()
        for start in range(0, logits.shape[1], rules.group) if len(aims) else ():
            rows, columns = linear_sum_assignment(np.nan_to_num(costs[start : start + rules.group], nan=WORST))
            queries = torch.as_tensor(rows + start, device=logits.device)
            objects = torch.as_tensor(columns, device=logits.device)
            labels[picture, queries] = true.classes[objects]
            places.append(queries + picture * logits.shape[1])
            true_boxes.append(aims[objects])
    return Assigned(labels, torch.cat(places), torch.cat(true_boxes))


def corners(boxes: Tensor) -> Tensor:
    """x, y of the middle, width and height to x1, y1, x2, y2: [..., 4]."""
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([middle - half, middle + half], dim=-1)


def centred(boxes: Tensor) -> Tensor:
    """`corners` backwards."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def _costs(logits: Tensor, said: Tensor, classes: Tensor, aims: Tensor, rules: Rules) -> Tensor:
    """float32 [A, m]."""
    from torchvision.ops import generalized_box_iou

    sure = logits.sigmoid()[:, classes]
    missed = ALPHA * (1 - sure) ** GAMMA * -(sure + SMALLEST).log()
    false = (1 - ALPHA) * sure**GAMMA * -(1 - sure + SMALLEST).log()
    apart = torch.cdist(centred(said), centred(aims), p=1)
    costs: Tensor = rules.classes * (missed - false) + rules.l1 * apart - rules.giou * generalized_box_iou(said, aims)
    return costs
