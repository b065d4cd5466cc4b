"""What the two stages of Faster R-CNN learn from: some places, drawn by lot, so that background does not outweigh all.

Lots come from torch's global generator, in the order in which torchvision draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.models._detection.matching import Truth, at_objects, by_overlap, matched, truths
from pipeline.networks import BACKGROUND, IGNORED, Costs, Matched

COSTS = Costs("cross_entropy", "smooth_l1", beta=1 / 9)
AT_OBJECTS = (0.5, 0.25)
"""Of what each stage learns from, the share that lies at objects, if there are enough."""


class FirstStage:
    """Whether there is an object at an anchor: by torchvision's matcher, coder and sampler."""

    def __init__(self, sampled: int) -> None:
        from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher

        self.coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.match = by_overlap(Matcher(0.7, 0.3, allow_low_quality_matches=True))
        self.sampler = BalancedPositiveNegativeSampler(sampled, AT_OBJECTS[0])

    def matched(self, logits: Tensor, codes: Tensor, anchors: Tensor, targets: Tensor) -> Matched:
        """Anchors float32 [A, 4] and what is said of them, logits [B, A, 1] and codes [B, A, 4], beside targets."""
        truth = [true._replace(classes=torch.zeros_like(true.classes)) for true in truths(targets)]
        matches = matched([anchors] * len(truth), truth, self.match)
        lots = drawn(self.sampler, matches)
        objects = at_objects(
            [torch.where(lot, match, IGNORED) for match, lot in zip(matches, lots, strict=True)], truth
        )
        shares = (objects.labels != IGNORED).float()
        shares = shares / shares.sum().clamp(min=1)
        said, here = codes.flatten(0, 1)[objects.places], anchors[objects.places % len(anchors)]
        return Matched(
            logits=logits,
            exclusive=False,
            labels=objects.labels,
            shares=shares,
            codes=said,
            true_codes=self.coder.encode_single(objects.boxes, here),
            boxes=self.coder.decode_single(said, here),
            true_boxes=objects.boxes,
            box_shares=shares.flatten()[objects.places],
            costs=COSTS,
        )


class Regions(NamedTuple):
    """n regions that the second stage learns from, m of them at an object."""

    boxes: Tensor
    """float32 [n, 4]."""
    pictures: Tensor
    """Which of the batch each is of: int64 [n]."""
    labels: Tensor
    """Class ids, or BACKGROUND: int64 [n]."""
    true_boxes: Tensor
    """float32 [m, 4]."""
    objects: Tensor
    """Which rows of the targets these are: int64 [m]."""


class SecondStage:
    """Which class an object is of, and where exactly it lies: by torchvision's matcher, coder and sampler."""

    def __init__(self, sampled: int) -> None:
        from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher

        self.coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.match = by_overlap(Matcher(0.5, 0.5))
        self.sampler = BalancedPositiveNegativeSampler(sampled, AT_OBJECTS[1])

    def sample(self, proposals: Tensor, there: Tensor, targets: Tensor) -> Regions:
        """Some of the proposals float32 [B, P, 4] that are `there`, bool [B, P], and of the true boxes."""
        truth = truths(targets)
        boxes = [torch.cat([own[real], true.boxes]) for own, real, true in zip(proposals, there, truth, strict=True)]
        matches = matched(boxes, truth, self.match)
        lots = drawn(self.sampler, matches)
        rows = [_row(*each) for each in zip(boxes, matches, lots, truth, strict=True)]
        chosen, labels, true_boxes, objects = (torch.cat(column) for column in zip(*rows, strict=True))
        counts = torch.stack([lot.sum() for lot in lots])
        pictures = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        return Regions(chosen, pictures, labels, true_boxes, objects)

    def matched(self, logits: Tensor, codes: Tensor, regions: Regions) -> Matched:
        """What is said of n regions, logits [n, K + 1] and codes [n, (K + 1) * 4], beside what is true."""
        at = (regions.labels >= 0).nonzero()[:, 0]
        said = codes.view(len(codes), logits.shape[1], 4)[at, regions.labels[at] + 1]  # each class has a box of its own
        here = regions.boxes[at]
        share = 1 / max(1, len(logits))
        return Matched(
            logits=logits[None],
            exclusive=True,
            labels=regions.labels[None],
            shares=logits.new_full((1, len(logits)), share),
            codes=said,
            true_codes=self.coder.encode_single(regions.true_boxes, here),
            boxes=self.coder.decode_single(said, here),
            true_boxes=regions.true_boxes,
            box_shares=logits.new_full((len(at),), share),
            costs=COSTS,
        )


def _row(boxes: Tensor, match: Tensor, lot: Tensor, true: Truth) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The boxes drawn, their labels, and of those at an object the true boxes and their rows."""
    match = match[lot]
    at = match >= 0
    labels = torch.full_like(match, BACKGROUND)
    labels[at] = true.classes[match[at]]
    return boxes[lot], labels, true.boxes[match[at]], true.rows[match[at]]


def drawn(sampler: Any, matches: Sequence[Tensor]) -> list[Tensor]:
    """Which places are learnt from, by what `matched` gave: bool, like each of them."""
    positive, negative = sampler([match.clamp(max=0) + 1 for match in matches])  # 1 an object, 0 none, -1 ignored
    return [(first | second).bool() for first, second in zip(positive, negative, strict=True)]
