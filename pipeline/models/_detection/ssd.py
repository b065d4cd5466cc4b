"""What SSD and SSDlite share: boxes from default boxes on the maps of a backbone and some coarser ones, in one stage.

Source: Liu et al. SSD: Single Shot MultiBox Detector, 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models._detection.answers import Limits, answered, picked
from pipeline.models._detection.backbones import Wanted, backbone
from pipeline.models._detection.coding import Coder
from pipeline.models._detection.matching import (
    Truth,
    at_objects,
    best_objects,
    beyond,
    overlaps,
    shared,
    truths,
    without_crowds,
)
from pipeline.models._detection.options import DetectorConfig
from pipeline.models._detection.pyramid import COARSEST_OF_BODY, looked
from pipeline.networks import BACKGROUND, Costs, Deciding, Matched, Predictions

RATIOS = (2, 3)
AT_OBJECT = 0.5
"""IoU of a box with an object, as in the paper."""
NEGATIVES = 3.0
"""Background places that are learnt from, for each place at an object."""


class SSDConfig(DetectorConfig):
    """The options of SSD and SSDlite."""

    candidates: int = Field(400, ge=1, le=10_000)
    """Boxes, the best of each class, that are compared with each other before overlapping ones are dropped."""
    score_threshold: float = Field(0.01, ge=0, lt=1)
    """Boxes with no higher score are not answered."""
    nms_iou: float = Field(0.45, gt=0, le=1)
    """Of two boxes of a class that overlap by more, the one with the lower score is dropped."""
    smallest: float = Field(0.06, gt=0, lt=1)
    """Side of the boxes on the finest map, as a share of the picture's: near that of the smallest objects. From map to
    map it grows by the same factor; in the paper it grows by the same step, from 0.1 on."""
    largest: float = Field(0.9, gt=0, le=1)
    """Side of the boxes on the coarsest map, likewise."""

    @model_validator(mode="after")
    def _grow(self) -> SSDConfig:
        if self.smallest > self.largest:
            raise ValueError(f"smallest is {self.smallest:g} and largest {self.largest:g}; the second has to be larger")
        return self


class Maps(nn.Module):
    """float32 [B, C, S, S] to maps [B, ?, S/stride, S/stride]: the backbone's, then halved until one place is left."""

    def __init__(self, wanted: Wanted, width: int, finest: int, halving: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        strides = [finest]
        while strides[-1] * 2 <= min(COARSEST_OF_BODY, wanted.size):
            strides.append(strides[-1] * 2)
        self.body = backbone(wanted, strides)
        maps = looked(self.body, wanted)
        self.widths = [each.shape[1] for each in maps]
        self.sides = [each.shape[-1] for each in maps]
        self.halvings = nn.ModuleList()
        while self.sides[-1] > 1:
            self.halvings.append(halving(self.widths[-1], width))
            self.widths.append(width)
            self.sides.append(-(-self.sides[-1] // 2))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """See the class."""
        maps: list[Tensor] = list(self.body(pictures))
        for halving in self.halvings:
            maps.append(halving(maps[-1]))
        return maps


class SSD(Deciding):
    """float32 [B, C, S, S] to boxes [B, D, 6]."""

    boxes: Tensor

    def __init__(
        self, config: SSDConfig, maps: Maps, head: Callable[[Sequence[int], Sequence[int]], nn.Module], size: int
    ) -> None:
        """`head`: from the channels of each map and the boxes at each of its places to one of torchvision's heads."""
        from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
        from torchvision.models.detection.image_list import ImageList

        super().__init__()
        self.maps = maps
        steps = len(maps.widths) - 1
        scales = [
            config.smallest * (config.largest / config.smallest) ** (step / max(1, steps)) for step in range(steps)
        ]
        generator = DefaultBoxGenerator([list(RATIOS)] * (steps + 1), scales=[*scales, config.largest, 1.0])
        seen = ImageList(torch.empty(1, 1, size, size), [(size, size)])
        (boxes,) = generator(seen, [torch.empty(1, 1, side, side) for side in maps.sides])
        # Derived from the options, so no part of the state.
        self.register_buffer("boxes", boxes, persistent=False)
        self.head = head(maps.widths, generator.num_anchors_per_location())
        self.coder = Coder(10.0, 5.0)
        self.limits = Limits(size, config.detections, config.nms_iou, config.score_threshold)
        self.candidates = config.candidates

    def raw(self, pictures: Tensor) -> Raw:
        """See `Deciding.raw`."""
        said = self.head(self.maps(pictures))
        return Raw(said["cls_logits"].float(), said["bbox_regression"].float(), self)

    def answer(self, raw: Raw) -> Tensor:
        """See `Deciding.answer`."""
        scores = F.softmax(raw.logits.detach(), dim=2)[..., 1:].transpose(1, 2)  # [B, K, A]
        best, places = scores.topk(min(self.candidates, scores.shape[2]), dim=2)
        classes = torch.arange(scores.shape[1], device=scores.device)[:, None].expand(places.shape).flatten(1)
        best, places = best.flatten(1), places.flatten(1)
        boxes = self.coder.decoded(picked(raw.codes.detach(), places), self.boxes[places])
        return answered(boxes, best, classes, self.limits)

    def match(self, truth: Truth) -> Tensor:
        """The object that a box overlaps by half, or more than any other box does: int64 [B, A], as
        `matching.at_objects` takes it. Of several objects that overlap one box most, the last has it."""
        overlap = overlaps(truth.boxes, self.boxes[None])
        matches = beyond(*best_objects(overlap, truth), AT_OBJECT, AT_OBJECT)
        best = overlap.max(dim=1).indices + truth.pictures * len(self.boxes)
        numbers = torch.arange(len(best), device=best.device)
        owned = torch.full_like(matches.flatten(), BACKGROUND).scatter_reduce(0, best, numbers, "amax")
        matches = torch.where(owned >= 0, owned, matches.flatten()).view_as(matches)
        return without_crowds(matches, self.boxes, truth)


@dataclass(frozen=True)
class Raw(Predictions):
    """What SSD thinks of A default boxes."""

    logits: Tensor
    """float32 [B, A, K + 1], of the background first."""
    codes: Tensor
    """float32 [B, A, 4]."""
    network: SSD

    def matched(self, targets: Tensor) -> list[Matched]:
        """See `Predictions.matched`."""
        places, coder, truth = self.network.boxes, self.network.coder, truths(targets)
        objects = at_objects(self.network.match(truth), truth)
        shares, box_shares = shared(objects, each_picture_alike=False)
        codes, here = self.codes.flatten(0, 1)[objects.places], places[objects.places % len(places)]
        return [
            Matched(
                logits=self.logits,
                exclusive=True,
                labels=objects.labels,
                shares=shares,
                codes=codes,
                true_codes=coder.encoded(objects.boxes, here),
                boxes=coder.decoded(codes, here),
                true_boxes=objects.boxes,
                box_shares=box_shares,
                costs=Costs("cross_entropy", "smooth_l1", mined=NEGATIVES),
            )
        ]
