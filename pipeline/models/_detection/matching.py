"""Which place of a detector is at which object: targets as torchvision's losses have them, and crowds beside them.

The objects of a batch stand in one row, those of the first picture first, and every picture is matched at once. The
processor asks how many there are, for all of them together, and how many places are at one: the device is waited for
twice, however many pictures a batch has.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.networks import BACKGROUND, IGNORED

WITHIN = 0.5
"""A background place of which a crowd covers more than this counts for nothing."""


class Truth(NamedTuple):
    """What is true of B pictures with N objects."""

    boxes: Tensor
    """float32 [N, 4]."""
    classes: Tensor
    """int64 [N]."""
    pictures: Tensor
    """Which picture each object is in, rising: int64 [N]."""
    rows: Tensor
    """Which row of its picture's targets each object is: int64 [N]."""
    firsts: Tensor
    """The number of the first object of each picture: int64 [B]."""
    counts: list[int]
    """Objects of each picture."""
    crowds: Tensor
    """Boxes in which any number of objects may lie, picture by picture: float32 [C, 4]."""
    crowd_counts: list[int]
    """Crowds of each picture."""


def truths(targets: Tensor) -> Truth:
    """Of targets float32 [B, M, 6]; boxes without area are left out, as padding is."""
    rows = targets.float()
    real = (rows[..., 4] >= 0) & (rows[..., 2:4] > rows[..., :2]).all(dim=2)
    crowd = rows[..., 5] > 0
    kinds = torch.stack([real & ~crowd, real & crowd])
    each = kinds.sum(dim=2)
    counts, crowd_counts = each.tolist()  # the device is waited for
    pictures, places = torch.nonzero_static(kinds[0], size=sum(counts)).unbind(dim=1)
    objects = rows[pictures, places]
    crowds = rows[torch.nonzero_static(kinds[1], size=sum(crowd_counts)).unbind(dim=1)]
    firsts = each[0].cumsum(0) - each[0]
    return Truth(objects[:, :4], objects[:, 4].long(), pictures, places, firsts, counts, crowds[:, :4], crowd_counts)


def overlaps(objects: Tensor, places: Tensor) -> Tensor:
    """IoU of objects and places.

    Args:
        objects: float32 [N, 4].
        places: float32 [1, A, 4], the same for all objects, or [N, A, 4].

    Returns:
        float32 [N, A]; 0 where neither has an area.
    """
    left, top, right, bottom = objects.unsqueeze(1).unbind(dim=2)
    x1, y1, x2, y2 = (side.contiguous() for side in places.unbind(dim=2))  # planes: twice as fast as rows of four
    common = (torch.minimum(right, x2) - torch.maximum(left, x1)).clamp_(min=0)
    common *= (torch.minimum(bottom, y2) - torch.maximum(top, y1)).clamp_(min=0)
    union = (right - left) * (bottom - top) + (x2 - x1) * (y2 - y1) - common
    return common.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))


def best_objects(values: Tensor, truth: Truth) -> tuple[Tensor, Tensor]:
    """Of each place the object of its picture with the largest value.

    Args:
        values: of each object at each place, float32 [N, A].
        truth: of the objects.

    Returns:
        The values, float32 [B, A], and the numbers of the objects among the N, int64 [B, A]; of pictures without any
        -inf, and a number that says nothing.
    """
    nothing = values.new_full(values.shape[1:], -torch.inf), values.new_zeros(values.shape[1:], dtype=torch.int64)
    found = [each.max(dim=0) if len(each) else nothing for each in torch.split(values, truth.counts)]
    best, which = (torch.stack(column) for column in zip(*found, strict=True))
    return best, which + truth.firsts[:, None]


def beyond(overlap: Tensor, which: Tensor, least: float, background: float) -> Tensor:
    """What `best_objects` gave for the IoU, where that is `least` or more; BACKGROUND where it is below `background`,
    and IGNORED in between: int64 [B, A]."""
    return torch.where(overlap >= least, which, torch.where(overlap < background, BACKGROUND, IGNORED))


def nearest(overlap: Tensor, truth: Truth) -> Tensor:
    """Places that an object overlaps as much as any, if it overlaps one: from float32 [N, A] to bool [B, A].

    torchvision lets an object that overlaps none have all of them.
    """
    most = overlap.amax(dim=1, keepdim=True)
    near = (overlap == most) & (most > 0)
    return torch.stack([each.any(dim=0) for each in torch.split(near, truth.counts)])


def in_crowds(places: Tensor, truth: Truth) -> Tensor | None:
    """Whether a crowd covers more than half of each place: [A, 4] or [B, A, 4] to bool [B, A]; None: there is none."""
    if not sum(truth.crowd_counts):
        return None
    boxes = places.expand(len(truth.counts), *places.shape[-2:])
    crowds = torch.split(truth.crowds, truth.crowd_counts)
    return torch.stack([in_crowd(each, crowd) for each, crowd in zip(boxes, crowds, strict=True)])


def in_crowd(boxes: Tensor, crowds: Tensor) -> Tensor:
    """Whether a crowd covers more than half of each box: [A, 4] and [c, 4] to bool [A]."""
    if not len(crowds):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    upper = torch.maximum(boxes[:, None, :2], crowds[None, :, :2])
    lower = torch.minimum(boxes[:, None, 2:], crowds[None, :, 2:])
    common = (lower - upper).clamp(min=0).prod(dim=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return (common > WITHIN * area[:, None]).any(dim=1)


def without_crowds(matches: Tensor, places: Tensor, truth: Truth) -> Tensor:
    """Matches int64 [B, A], with IGNORED in place of BACKGROUND where a crowd covers the place: see `in_crowds`."""
    crowded = in_crowds(places, truth)
    return matches if crowded is None else torch.where((matches == BACKGROUND) & crowded, IGNORED, matches)


class Objects(NamedTuple):
    """The places at an object, n among the B x A of a batch."""

    labels: Tensor
    """Of every place: int64 [B, A], with BACKGROUND and IGNORED."""
    places: Tensor
    """Positions among B x A: int64 [n]."""
    numbers: Tensor
    """Which of the N objects each is at: int64 [n]."""
    boxes: Tensor
    """True ones: float32 [n, 4]."""
    of_picture: Tensor
    """How many are in each picture: int64 [B]."""
    counts: list[int]
    """The same, for the processor."""


def at_objects(matches: Tensor, truth: Truth) -> Objects:
    """What is true at each place.

    Args:
        matches: the number of an object, BACKGROUND or IGNORED: int64 [B, A].
        truth: of the objects.
    """
    at = matches >= 0
    of_picture = at.sum(dim=1)
    counts = of_picture.tolist()  # the device is waited for
    places = torch.nonzero_static(at.flatten(), size=sum(counts))[:, 0]
    numbers = matches.flatten()[places]
    return Objects(labels_of(matches, truth), places, numbers, truth.boxes[numbers], of_picture, counts)


def labels_of(matches: Tensor, truth: Truth) -> Tensor:
    """The class of the object in place of its number, in matches int64 [...]."""
    if not len(truth.classes):
        return matches
    return torch.where(matches >= 0, truth.classes[matches.clamp(min=0)], matches)


def shared(objects: Objects, each_picture_alike: bool) -> tuple[Tensor, Tensor]:
    """What costs are multiplied by: one over the number of places at an object, which is taken to be 1 if it is 0.

    Args:
        objects: what is true.
        each_picture_alike: whether that number is the picture's own and pictures are averaged, or the batch's.

    Returns:
        For every place float32 [B, A], 0 where it is ignored; and for those at an object float32 [n].
    """
    counts = objects.of_picture.float()
    if each_picture_alike:
        share = 1 / (counts.clamp(min=1) * len(counts))
    else:
        share = (1 / counts.sum().clamp(min=1)).expand(len(counts))
    shares = torch.where(objects.labels == IGNORED, 0.0, share[:, None])
    return shares, shares.flatten()[objects.places]
