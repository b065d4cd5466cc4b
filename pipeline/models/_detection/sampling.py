"""What the two stages of Faster R-CNN learn from: some places, drawn by lot, so that background does not outweigh all.

Lots come from torch's global generator of the processor, in the order in which torchvision draws them. Both stages are
matched first and drawn after that, so the device is waited for once, to say how many places of each kind there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.models._detection.coding import Coder
from pipeline.models._detection.host import sent, told
from pipeline.models._detection.matching import (
    Truth,
    best_objects,
    beyond,
    labels_of,
    nearest,
    overlaps,
    without_crowds,
)
from pipeline.models._detection.regions import Regions, levels_of
from pipeline.networks import BACKGROUND, IGNORED, Costs, Matched

COSTS = Costs("cross_entropy", "smooth_l1", beta=1 / 9)
AT_OBJECTS = (0.5, 0.25)
"""Of what each stage learns from, the share that lies at objects, if there are enough."""
FIRST, SECOND = (0.7, 0.3), (0.5, 0.5)
"""IoU from which on a place of each stage is at an object, and below which it is background."""


class Anchored(NamedTuple):
    """The anchors that the first stage learns from, m of them at an object."""

    positive: Tensor
    """Positions of these among B x A, rising: int64 [m]."""
    negative: Tensor
    """Likewise of background."""
    true_boxes: Tensor
    """float32 [m, 4]."""


class Candidates(NamedTuple):
    """What a stage draws from."""

    boxes: Tensor
    """float32 [B, A, 4], or [A, 4], the same for all pictures."""
    matches: Tensor
    """Numbers of objects, BACKGROUND, or IGNORED, which is not drawn: int64 [B, A]."""
    sampled: int
    """How many of a picture are drawn."""


class Sampled(NamedTuple):
    """n regions that the second stage learns from, m of them at an object."""

    regions: Regions
    """All of them."""
    labels: Tensor
    """Class ids, or BACKGROUND: int64 [n]."""
    at: Tensor
    """Which of them are at an object, rising: int64 [m]."""
    regions_at: Regions
    """These."""
    true_boxes: Tensor
    """float32 [m, 4]."""
    rows: Tensor
    """Which rows of the targets their objects are: int64 [m]."""


class FirstStage:
    """Whether there is an object at an anchor, in torchvision's code."""

    def __init__(self, sampled: int) -> None:
        self.coder = Coder(1.0, 1.0)
        self.sampled = sampled

    def candidates(self, anchors: Tensor, truth: Truth) -> Candidates:
        """Anchors float32 [A, 4], at the object that each overlaps enough, or as much as any other does."""
        overlap = overlaps(truth.boxes, anchors[None])
        most, which = best_objects(overlap, truth)
        matches = torch.where(nearest(overlap, truth), which, beyond(most, which, *FIRST))
        return Candidates(anchors, without_crowds(matches, anchors, truth), self.sampled)

    def matched(self, logits: Tensor, codes: Tensor, anchors: Tensor, true: Anchored) -> Matched:
        """What is said of anchors float32 [A, 4], logits [B, A, 1] and codes [B, A, 4], beside what is true."""
        labels = torch.full((logits.shape[0] * logits.shape[1],), IGNORED, device=logits.device)
        labels = labels.index_fill(0, true.positive, 0).index_fill(0, true.negative, BACKGROUND)
        shares = (labels != IGNORED).float()
        shares = shares / shares.sum().clamp(min=1)
        said, here = codes.flatten(0, 1)[true.positive], anchors[true.positive % len(anchors)]
        return Matched(
            logits=logits,
            exclusive=False,
            labels=labels.view(logits.shape[:2]),
            shares=shares.view(logits.shape[:2]),
            codes=said,
            true_codes=self.coder.encoded(true.true_boxes, here),
            boxes=self.coder.decoded(said, here),
            true_boxes=true.true_boxes,
            box_shares=shares[true.positive],
            costs=COSTS,
        )


class SecondStage:
    """Which class an object is of, and where exactly it lies, in torchvision's code."""

    def __init__(self, sampled: int) -> None:
        self.coder = Coder(10.0, 5.0)
        self.sampled = sampled

    def candidates(self, proposals: Tensor, there: Tensor, truth: Truth) -> Candidates:
        """Proposals float32 [B, P, 4] that are `there`, bool [B, P], and the true boxes after them: Q for each."""
        count, most = len(proposals), max(truth.counts)
        place = torch.arange(len(truth.pictures), device=proposals.device) - truth.firsts[truth.pictures]
        true = proposals.new_zeros(count, most, 4).index_put((truth.pictures, place), truth.boxes)
        real = proposals.new_zeros(count, most).index_put((truth.pictures, place), proposals.new_ones(())) > 0
        boxes, there = torch.cat([proposals, true], dim=1), torch.cat([there, real], dim=1)
        matches = beyond(*best_objects(overlaps(truth.boxes, boxes[truth.pictures]), truth), *SECOND)
        return Candidates(boxes, torch.where(there, without_crowds(matches, boxes, truth), IGNORED), self.sampled)

    def matched(self, logits: Tensor, codes: Tensor, true: Sampled) -> Matched:
        """What is said of n regions, logits [n, K + 1] and codes [n, (K + 1) * 4], beside what is true."""
        said = codes.view(len(codes), logits.shape[1], 4)[true.at, true.labels[true.at] + 1]  # a box for each class
        here = true.regions_at.boxes
        share = 1 / max(1, len(logits))
        return Matched(
            logits=logits[None],
            exclusive=True,
            labels=true.labels[None],
            shares=logits.new_full((1, len(logits)), share),
            codes=said,
            true_codes=self.coder.encoded(true.true_boxes, here),
            boxes=self.coder.decoded(said, here),
            true_boxes=true.true_boxes,
            box_shares=logits.new_full((len(true.at),), share),
            costs=COSTS,
        )


def sample(first: Candidates, second: Candidates, truth: Truth, strides: Sequence[int]) -> tuple[Anchored, Sampled]:
    """What each stage learns from.

    Args:
        first: of the first stage.
        second: of the second one.
        truth: of the objects.
        strides: of the maps that regions are seen on.
    """
    kinds, levels = _kinds(first.matches), levels_of(second.boxes, strides)
    counts, matches, levels = told(kinds.sum(dim=2), second.matches, levels)
    lots = drawn(counts, first.sampled, AT_OBJECTS[0])
    of_second = _kinds(matches)
    chosen = [
        kind.flatten().nonzero()[lot, 0]
        for kind, lot in zip(of_second, drawn(of_second.sum(dim=2), second.sampled, AT_OBJECTS[1]), strict=True)
    ]
    regions = torch.cat(chosen).sort().values
    at = (matches.flatten()[regions] >= 0).nonzero()[:, 0]
    on = on_maps(levels.flatten()[regions], len(strides))
    on_at = on_maps(levels.flatten()[regions[at]], len(strides))
    parts = sent([*lots, regions, at, *on, *on_at], kinds.device)
    places = [
        torch.nonzero_static(kind.flatten(), size=count)[lot, 0]
        for kind, count, lot in zip(kinds, counts.sum(dim=1).tolist(), parts[:2], strict=True)
    ]
    anchored = Anchored(places[0], places[1], truth.boxes[first.matches.flatten()[places[0]]])
    return anchored, _sampled(second, truth, parts[2:4], (parts[4 : 4 + len(strides)], parts[4 + len(strides) :]))


def _sampled(
    second: Candidates, truth: Truth, chosen: Sequence[Tensor], on: tuple[Sequence[Tensor], Sequence[Tensor]]
) -> Sampled:
    """What the second stage learns from.

    Args:
        second: its candidates.
        truth: of the objects.
        chosen: positions of n candidates among B x Q, and which of these m are at an object: int64 [n] and [m].
        on: which of the n, and of the m, are seen on each map.
    """
    regions, at = chosen
    numbers, boxes = second.matches.flatten()[regions], second.boxes.flatten(0, 1)[regions]
    pictures = regions // second.matches.shape[1]
    return Sampled(
        Regions(boxes, pictures, on[0]),
        labels_of(numbers, truth),
        at,
        Regions(boxes[at], pictures[at], on[1]),
        truth.boxes[numbers[at]],
        truth.rows[numbers[at]],
    )


def _kinds(matches: Tensor) -> Tensor:
    """Which places are at an object, and which are background: int64 [B, A] to bool [2, B, A]."""
    return torch.stack([matches >= 0, matches == BACKGROUND])


def drawn(counts: Tensor, sampled: int, share: float) -> tuple[Tensor, Tensor]:
    """Lots, as torchvision's `BalancedPositiveNegativeSampler` draws them.

    Args:
        counts: places of each picture at an object, and those of background: int64 [2, B], on the processor.
        sampled: places of a picture that are learnt from.
        share: of them those at objects, if there are enough.

    Returns:
        Of both kinds which are drawn, by their ranks among those of their kind in the batch, rising: int64.
    """
    lots: tuple[list[Tensor], list[Tensor]] = ([], [])
    for (positive, negative), before in zip(counts.T.tolist(), (counts.cumsum(1) - counts).T, strict=True):
        first = min(positive, int(sampled * share))
        second = min(negative, sampled - first)
        lots[0].append(torch.randperm(positive)[:first].sort().values + before[0])
        lots[1].append(torch.randperm(negative)[:second].sort().values + before[1])
    return torch.cat(lots[0]), torch.cat(lots[1])


def on_maps(levels: Tensor, count: int) -> list[Tensor]:
    """Of each of so many maps those that are seen on it: int64 [n], on the processor, to int64 each, rising."""
    return [(levels == level).nonzero()[:, 0] for level in range(count)]
