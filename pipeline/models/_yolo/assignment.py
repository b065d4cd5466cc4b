"""Which places learn which object: those that already tell its class and its box best, so that both are told together.

Source: Feng et al. TOOD: Task-aligned One-stage Object Detection, 2021, section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.models._detection.matching import Truth, at_objects, best_objects, overlaps, without_crowds
from pipeline.models._yolo.places import Places
from pipeline.networks import BACKGROUND


class Rule(NamedTuple):
    """How well a place tells an object: score**score_power * IoU**overlap_power."""

    most: int
    """Places that learn an object."""
    score_power: float
    overlap_power: float


class Assigned(NamedTuple):
    """The places at an object, n among the B x A of a batch."""

    labels: Tensor
    """Of every place its class, BACKGROUND or IGNORED: int64 [B, A]."""
    places: Tensor
    """Positions among B x A: int64 [n]."""
    counts: list[int]
    """How many are in each picture."""
    objects: Tensor
    """Which of the N objects each is at: int64 [n]."""
    boxes: Tensor
    """True ones: float32 [n, 4]."""
    scores: Tensor
    """What is to be said of the class there, in 0..1: float32 [n]."""
    shares: Tensor
    """How much the box there counts, in 0..1, and 1 at the best place of each object: float32 [n]."""


@torch.no_grad()
def assigned(scores: Tensor, boxes: Tensor, places: Places, truth: Truth, rule: Rule) -> Assigned:
    """The places at objects, by what is said now.

    Of the places in an object the best are taken; one that is taken for several is at that which its box overlaps most.

    Args:
        scores: of each class, in 0..1, float32 [B, A, K].
        boxes: corners, float32 [B, A, 4].
        places: A of them.
        truth: of the B pictures.
        rule: how the best are found.
    """
    overlap = overlaps(truth.boxes, boxes[truth.pictures])  # [N, A]
    metric = scores[truth.pictures, :, truth.classes] ** rule.score_power * overlap**rule.overlap_power
    metric = torch.where(within(truth.boxes, places), metric, -1.0)
    top = metric.topk(min(rule.most, metric.shape[1]), dim=1).indices
    taken = torch.zeros_like(metric, dtype=torch.bool).scatter_(1, top, True) & (metric >= 0)
    most, which = best_objects(torch.where(taken, overlap, -1.0), truth)
    which = torch.where(most >= 0, which, BACKGROUND)
    at = at_objects(without_crowds(which, places.squares, truth), truth)
    taken &= torch.arange(len(metric), device=metric.device)[:, None] == which[truth.pictures]
    metric, overlap = torch.where(taken, metric, 0.0), torch.where(taken, overlap, 0.0)
    # The best place of an object shall say how well its box is told, the others less as they are worse.
    best = metric.amax(dim=1).clamp(min=torch.finfo(metric.dtype).tiny)[at.numbers]
    share = metric[at.numbers, at.places % metric.shape[1]] / best
    return Assigned(
        at.labels, at.places, at.counts, at.numbers, at.boxes, share * overlap.amax(dim=1)[at.numbers], share
    )


def within(objects: Tensor, places: Places) -> Tensor:
    """Which places lie in each object: bool [N, A]; of one between all of them, the nearest on the finest map."""
    (x, y), fine = places.middles.T, slice(places.of_each_map[0])
    left, top, right, bottom = objects[:, :, None].unbind(dim=1)
    inside = (x > left) & (y > top) & (right > x) & (bottom > y)
    apart = ((left + right) / 2 - x[fine]).square() + ((top + bottom) / 2 - y[fine]).square()
    nearest = apart.argmin(dim=1, keepdim=True)
    lost = ~inside.any(dim=1, keepdim=True)
    found: Tensor = inside.scatter(1, nearest, inside.gather(1, nearest) | lost)
    return found
