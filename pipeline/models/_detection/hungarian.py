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

from pipeline.models._detection.host import sent
from pipeline.models._detection.matching import Truth, without_crowds
from pipeline.networks import BACKGROUND

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
def assigned(stages: Sequence[tuple[Tensor, Tensor]], truth: Truth, rules: Rules) -> list[Assigned]:
    """Give every object one query of each group; if it has fewer queries than there are objects, some have none.

    The costs of all stages go to the processor in one copy, and what it finds comes back in one.

    Args:
        stages: logits float32 [B, A, K], and x, y, width and height in shares of the picture, float32 [B, A, 4].
        truth: of the pictures, in pixels.
        rules: A is a multiple of `rules.group`.

    Returns:
        For each stage.
    """
    aims, crowds = truth.boxes / rules.side, truth._replace(crowds=truth.crowds / rules.side)
    costs = torch.stack([_costs(logits, boxes, truth, aims, rules) for logits, boxes in stages])
    pairs = [_pairs(each, truth.counts, rules.group) for each in costs.cpu().numpy()]  # the device is waited for
    parts = sent([torch.from_numpy(column) for pair in pairs for column in pair], aims.device)
    found = []
    for (_, boxes), places, objects in zip(stages, parts[::2], parts[1::2], strict=True):
        labels = boxes.new_full(boxes.shape[:2], BACKGROUND, dtype=torch.int64)
        labels = without_crowds(labels, corners(boxes), crowds)
        labels = labels.flatten().scatter(0, places, truth.classes[objects]).view(labels.shape)
        found.append(Assigned(labels, places, aims[objects]))
    return found


def _pairs(costs: np.ndarray, counts: Sequence[int], group: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of least cost in each group of queries.

    Args:
        costs: of each object with every query of its picture, float32 [N, A].
        counts: objects of each picture.
        group: queries of a group.

    Returns:
        The positions of their queries among B x A, rising, and the numbers of their objects: int64 [n].
    """
    from scipy.optimize import linear_sum_assignment

    nothing = np.zeros(0, np.int64)
    places, objects, first = [nothing], [nothing], 0
    for picture, count in enumerate(counts):
        of_picture = np.nan_to_num(costs[first : first + count].T, nan=WORST)
        for start in range(0, len(of_picture), group) if count else ():
            rows, columns = linear_sum_assignment(of_picture[start : start + group])
            places.append(rows + (picture * len(of_picture) + start))
            objects.append(columns + first)
        first += count
    return np.concatenate(places), np.concatenate(objects)


def corners(boxes: Tensor) -> Tensor:
    """x, y of the middle, width and height to x1, y1, x2, y2: [..., 4]."""
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([middle - half, middle + half], dim=-1)


def centred(boxes: Tensor) -> Tensor:
    """`corners` backwards."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def _costs(logits: Tensor, boxes: Tensor, truth: Truth, aims: Tensor, rules: Rules) -> Tensor:
    """Of each object, whose box is `aims`, with every query of its picture: float32 [N, A]."""
    sure = logits.sigmoid()[truth.pictures, :, truth.classes]
    missed = ALPHA * (1 - sure) ** GAMMA * -(sure + SMALLEST).log()
    false = (1 - ALPHA) * sure**GAMMA * -(1 - sure + SMALLEST).log()
    said = corners(boxes)
    apart = (centred(said)[truth.pictures] - centred(aims)[:, None]).abs().sum(dim=2)
    return rules.classes * (missed - false) + rules.l1 * apart - rules.giou * giou(said[truth.pictures], aims[:, None])


def giou(first: Tensor, second: Tensor, small: float = 0.0) -> Tensor:
    """Generalized IoU of boxes [..., 4] that can be broadcast: [...].

    Source: Rezatofighi et al. Generalized Intersection over Union, 2019. `small` is added to what is divided by.
    """
    (left, top, right, bottom), (x1, y1, x2, y2) = first.unbind(dim=-1), second.unbind(dim=-1)
    width = (torch.minimum(right, x2) - torch.maximum(left, x1)).clamp(min=0)
    common = width * (torch.minimum(bottom, y2) - torch.maximum(top, y1)).clamp(min=0)
    union = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1) - common
    around = (torch.maximum(right, x2) - torch.minimum(left, x1)) * (torch.maximum(bottom, y2) - torch.minimum(top, y1))
    return common / (union + small) - (around - union) / (around + small)
