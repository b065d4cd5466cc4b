"""Which places learn which object: those that already tell its class and its box best, so that both are told together.

Source: Feng et al. TOOD: Task-aligned One-stage Object Detection, 2021, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.models._detection.matching import Truth, in_crowd
from pipeline.models._yolo.places import Places
from pipeline.networks import BACKGROUND, IGNORED


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
    objects: Tensor
    """Which of its picture's objects each is at: int64 [n]."""
    boxes: Tensor
    """True ones: float32 [n, 4]."""
    scores: Tensor
    """What is to be said of the class there, in 0..1: float32 [n]."""
    shares: Tensor
    """How much the box there counts, in 0..1, and 1 at the best place of each object: float32 [n]."""


@torch.no_grad()
def assigned(scores: Tensor, boxes: Tensor, places: Places, truth: Sequence[Truth], rule: Rule) -> Assigned:
    """The places at objects, by what is said now.

    Args:
        scores: of each class, in 0..1, float32 [B, A, K].
        boxes: corners, float32 [B, A, 4].
        places: A of them.
        truth: of each of the B pictures.
        rule: how the best are found.
    """
    labels, objects, worth, counting, true_boxes = [], [], [], [], []
    for said, box, true in zip(scores, boxes, truth, strict=True):
        none = torch.full((len(box),), BACKGROUND, dtype=torch.int64, device=box.device)
        which, sure, share = none, box.new_zeros(len(box)), box.new_zeros(len(box))
        if len(true.boxes):
            which, sure, share = best(said, box, places, true, rule)
        at = which >= 0
        label = torch.where(in_crowd(places.squares, true.crowds), IGNORED, none)
        label[at] = true.classes[which[at]]
        labels.append(label)
        objects.append(which[at])
        worth.append(sure[at])
        counting.append(share[at])
        true_boxes.append(true.boxes[which[at]])
    every = torch.stack(labels)
    at_objects = (every >= 0).flatten().nonzero()[:, 0]
    parts = (torch.cat(each) for each in (objects, true_boxes, worth, counting))
    return Assigned(every, at_objects, *parts)


def best(scores: Tensor, boxes: Tensor, places: Places, true: Truth, rule: Rule) -> tuple[Tensor, Tensor, Tensor]:
    """Of one picture the object that each place is at, int64 [A], or BACKGROUND; and scores and shares, float32 [A].

    Of the places in an object the best are taken; one that is taken for several is at that which its box overlaps most.
    """
    overlaps = overlap(true.boxes, boxes)  # [m, A]
    metric = scores.T[true.classes] ** rule.score_power * overlaps**rule.overlap_power
    metric = torch.where(within(true.boxes, places), metric, -1.0)
    top = metric.topk(min(rule.most, metric.shape[1]), dim=1).indices
    taken = torch.zeros_like(metric, dtype=torch.bool).scatter_(1, top, True) & (metric >= 0)
    claimed = torch.where(taken, overlaps, -1.0)
    most, which = claimed.max(dim=0)
    taken &= torch.arange(len(metric), device=metric.device)[:, None] == which
    metric, overlaps = torch.where(taken, metric, 0.0), torch.where(taken, overlaps, 0.0)
    # The best place of an object shall say how well its box is told, the others less as they are worse.
    share = metric / metric.amax(dim=1, keepdim=True).clamp(min=torch.finfo(metric.dtype).tiny)
    sure = (share * overlaps.amax(dim=1, keepdim=True)).amax(dim=0)
    return torch.where(most >= 0, which, BACKGROUND), sure, share.amax(dim=0)


def within(objects: Tensor, places: Places) -> Tensor:
    """Which places lie in each object: bool [m, A]; of one between all of them, the nearest on the finest map."""
    middles = places.middles[None]
    inside = torch.cat([middles - objects[:, None, :2], objects[:, None, 2:] - middles], dim=2).amin(dim=2) > 0
    fine = middles[:, : places.of_each_map[0]]
    nearest = ((objects[:, None, :2] + objects[:, None, 2:]) / 2 - fine).square().sum(dim=2).argmin(dim=1)
    lost = ~inside.any(dim=1)
    inside[lost, nearest[lost]] = True
    return inside


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """IoU of every pair: boxes [m, 4] and [A, 4] to [m, A]."""
    upper = torch.maximum(first[:, None, :2], second[None, :, :2])
    lower = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (lower - upper).clamp(min=0).prod(dim=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (first, second)]
    return common / (areas[0][:, None] + areas[1][None] - common).clamp(min=torch.finfo(common.dtype).tiny)
