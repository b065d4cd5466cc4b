"""Which place of a detector is at which object: targets as torchvision's losses have them, and crowds beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.networks import BACKGROUND, IGNORED

WITHIN = 0.5
"""A background place of which a crowd covers more than this counts for nothing."""


class Truth(NamedTuple):
    """What is true of one picture of m objects."""

    boxes: Tensor
    """float32 [m, 4]."""
    classes: Tensor
    """int64 [m]."""
    crowds: Tensor
    """Boxes in which any number of objects may lie: float32 [c, 4]."""
    rows: Tensor
    """Which row of the picture's targets each object is: int64 [m]."""


def truths(targets: Tensor) -> list[Truth]:
    """Targets float32 [B, M, 6], picture by picture; boxes without area are left out, as padding is."""
    found = []
    for rows in targets.float():
        real = (rows[:, 4] >= 0) & (rows[:, 2:4] > rows[:, :2]).all(dim=1)
        crowd = rows[:, 5] > 0
        objects = (real & ~crowd).nonzero()[:, 0]
        found.append(Truth(rows[objects, :4], rows[objects, 4].long(), rows[real & crowd, :4], objects))
    return found


def matched(places: Sequence[Tensor], truth: Sequence[Truth], match: Callable[[Tensor, Truth], Tensor]) -> list[Tensor]:
    """The object that each place is at.

    Args:
        places: boxes of each picture, float32 [A, 4].
        truth: of each picture.
        match: from such boxes and what is true, at least one object, to int64 [A].

    Returns:
        For each picture int64 [A]: the index of an object, BACKGROUND, or IGNORED.
    """
    found = []
    for boxes, true in zip(places, truth, strict=True):
        none = torch.full((len(boxes),), BACKGROUND, dtype=torch.int64, device=boxes.device)
        objects = match(boxes, true) if len(true.boxes) else none
        found.append(torch.where((objects == BACKGROUND) & in_crowd(boxes, true.crowds), IGNORED, objects))
    return found


def by_overlap(matcher: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Truth], Tensor]:
    """A match by one of torchvision's matchers, which take the IoU of every object with every place."""
    from torchvision.ops import box_iou

    return lambda boxes, true: matcher(box_iou(true.boxes, boxes))


def in_crowd(boxes: Tensor, crowds: Tensor) -> Tensor:
    """Whether a crowd covers more than half of each box: [A, 4] and [c, 4] to bool [A]."""
    if not len(crowds):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    upper = torch.maximum(boxes[:, None, :2], crowds[None, :, :2])
    lower = torch.minimum(boxes[:, None, 2:], crowds[None, :, 2:])
    common = (lower - upper).clamp(min=0).prod(dim=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return (common > WITHIN * area[:, None]).any(dim=1)


class Objects(NamedTuple):
    """The places at an object, n among the B x A of a batch."""

    labels: Tensor
    """Of every place: int64 [B, A], with BACKGROUND and IGNORED."""
    places: Tensor
    """Positions among B x A: int64 [n]."""
    boxes: Tensor
    """True ones: float32 [n, 4]."""
    of_picture: Tensor
    """How many are in each picture: float32 [B]."""


def at_objects(matches: Sequence[Tensor], truth: Sequence[Truth]) -> Objects:
    """What is true at each place, by what `matched` gave for pictures of equally many places."""
    labels, boxes = [], []
    for objects, true in zip(matches, truth, strict=True):
        at = objects >= 0
        label = objects.clone()
        label[at] = true.classes[objects[at]]
        labels.append(label)
        boxes.append(true.boxes[objects[at]])
    every = torch.stack(labels)
    at = every >= 0
    return Objects(every, at.flatten().nonzero()[:, 0], torch.cat(boxes), at.sum(dim=1).float())


def shared(objects: Objects, each_picture_alike: bool) -> tuple[Tensor, Tensor]:
    """What costs are multiplied by: one over the number of places at an object, which is taken to be 1 if it is 0.

    Args:
        objects: what is true.
        each_picture_alike: whether that number is the picture's own and pictures are averaged, or the batch's.

    Returns:
        For every place float32 [B, A], 0 where it is ignored; and for those at an object float32 [n].
    """
    counts = objects.of_picture
    if each_picture_alike:
        share = 1 / (counts.clamp(min=1) * len(counts))
    else:
        share = (1 / counts.sum().clamp(min=1)).expand(len(counts))
    shares = torch.where(objects.labels == IGNORED, 0.0, share[:, None])
    return shares, shares.flatten()[objects.places]
