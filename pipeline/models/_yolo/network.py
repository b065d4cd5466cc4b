"""The detector as a whole: what it thinks at every place, what it learns from that, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.models._detection.answers import Limits, answered_at, best_of_each_map, picked
from pipeline.models._detection.matching import Truth, truths
from pipeline.models._yolo.assignment import Assigned, assigned
from pipeline.models._yolo.head import Head
from pipeline.models._yolo.options import YoloConfig
from pipeline.models._yolo.places import Places
from pipeline.models._yolo.trunk import Trunk
from pipeline.networks import IGNORED, Costs, Deciding, Matched, Predictions

COSTS = Costs("cross_entropy", "ciou", box_weight=2.5, distribution_weight=0.5)
LEAST = 1.0
"""Scores that costs are divided by, at least: a batch without objects has none."""


class Found(NamedTuple):
    """What is answered, and where it was said."""

    rows: Tensor
    """float32 [B, D, 6]; see `answers.answered`."""
    places: Tensor
    """Which of the A places said each; 0 where nothing is answered: int64 [B, D]."""


class Yolo(Deciding):
    """float32 [B, C, S, S] to boxes [B, D, 6]."""

    numbers: Tensor

    def __init__(self, config: YoloConfig, channels: int, outputs: int, size: int) -> None:
        """`outputs`: K; `size`: S.

        Raises:
            UserError: the backbone or its weights do not fit, or the pictures are too small.
        """
        super().__init__()
        self.trunk = Trunk(config.wanted(channels, size, config.finest), config.scale, config.finest)
        width = config.width or self.trunk.widths[0]
        self.head = Head(self.trunk.widths, width, outputs, config.bins, config.depth)
        self.places = Places(self.trunk.strides, self.trunk.sides)
        self.register_buffer("numbers", torch.arange(config.bins, dtype=torch.float32), persistent=False)
        self.limits = Limits(size, config.detections, config.nms_iou, config.score_threshold)
        self.candidates, self.rule = config.candidates, config.rule

    def raw(self, pictures: Tensor) -> Raw:
        """See `Deciding.raw`."""
        return self.think(self.trunk(pictures))

    def think(self, maps: Sequence[Tensor]) -> Raw:
        """What is thought of the maps of the trunk."""
        logits, sides = self.head(maps)
        return Raw(logits, sides, self)

    def answer(self, raw: Raw) -> Tensor:
        """See `Deciding.answer`."""
        return self.found(raw).rows

    def found(self, raw: Raw) -> Found:
        """The answer, and which place said each of its boxes."""
        scores = raw.logits.detach().sigmoid()
        best, places, classes = best_of_each_map(scores, self.places.of_each_map, self.candidates)
        sides = picked(raw.sides.detach().flatten(2), places)
        boxes = self.places.decoded(self.expected(sides.view(*places.shape, 4, len(self.numbers))), places)
        rows, at = answered_at(boxes, best, classes, self.limits)
        return Found(rows, torch.where(rows[..., 4] > 0, places.gather(1, at), 0))

    def expected(self, sides: Tensor) -> Tensor:
        """Distances in strides by their distributions: logits [..., R] to float32 [...]."""
        # A product of matrices would be one of half precision where the forward pass is.
        return (F.softmax(sides, dim=-1) * self.numbers).sum(dim=-1)


@dataclass(frozen=True)
class Raw(Predictions):
    """What is thought of A places."""

    logits: Tensor
    """float32 [B, A, K]."""
    sides: Tensor
    """How far left, up, right and down are, as logits of whole numbers of strides: float32 [B, A, 4, R]."""
    network: Yolo

    def boxes(self) -> Tensor:
        """Corners in pixels, float32 [B, A, 4]."""
        return self.network.places.decoded(self.network.expected(self.sides))

    def matched(self, targets: Tensor) -> list[Matched]:
        """See `Predictions.matched`."""
        return [self.judged(self.assigned(truths(targets)))]

    def assigned(self, truth: Truth) -> Assigned:
        """Which places are at which object."""
        scores, boxes = self.logits.detach().sigmoid(), Raw(self.logits, self.sides.detach(), self.network).boxes()
        return assigned(scores, boxes, self.network.places, truth, self.network.rule)

    def judged(self, at: Assigned) -> Matched:
        """What is thought beside what is true: an object counts as much as it can be told."""
        places, which = self.network.places, at.places % self.logits.shape[1]
        sides = self.sides.flatten(0, 1)[at.places]
        codes = self.network.expected(sides)
        share = 1 / at.scores.sum().clamp(min=LEAST)
        # In the paper a box counts as much as its score. Early scores are low, those of small objects most of all, and
        # their boxes would hardly be learnt: from scratch, in minutes, the best place of each object counts fully.
        return Matched(
            logits=self.logits,
            exclusive=False,
            labels=at.labels,
            shares=torch.where(at.labels == IGNORED, 0.0, share),
            codes=codes,
            true_codes=places.encoded(at.boxes, which).clamp(0, len(self.network.numbers) - 1),
            boxes=places.decoded(codes, which),
            true_boxes=at.boxes,
            box_shares=at.shares / at.shares.sum().clamp(min=LEAST),
            costs=COSTS,
            scores=at.scores,
            distributions=sides,
        )
