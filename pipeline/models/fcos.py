"""FCOS: boxes from points on a feature pyramid, in one stage and without anchors.

Source: Tian, Shen, Chen, He. FCOS: A Simple and Strong Anchor-free Object Detector, 2020; torchvision's heads, on small
backbones and pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models._detection.answers import Limits, answered, best_of_each_map, picked
from pipeline.models._detection.matching import (
    Objects,
    Truth,
    at_objects,
    best_objects,
    shared,
    truths,
    without_crowds,
)
from pipeline.models._detection.options import Anchors, DetectorConfig
from pipeline.models._detection.pyramid import Pyramid
from pipeline.networks import BACKGROUND, Costs, Deciding, Matched, Predictions

FIRST_GUESS = 2.0
"""Of how far a box reaches from its point, in strides: at 0, where torchvision begins, half of the outputs are cut off
by a ReLU and learn nothing."""


class Config(DetectorConfig):
    """Every point near the middle of an object says how far its four sides are away."""

    nms_iou: float = Field(0.6, gt=0, le=1)
    """Of two boxes of a class that overlap by more, the one with the lower score is dropped."""
    radius: float = Field(1.5, gt=0, le=16)
    """How near to the middle of an object a point learns from it, in strides of its map."""
    finest: Literal[4, 8] = 8
    """Stride of the finest map: 4 finds objects half as large as 8, at four times the cost."""
    depth: int = Field(2, ge=1, le=4)
    """Convolutions before the last one, in each of the two heads; 4 in the paper."""

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the backbone or its weights do not fit, or the pictures are too small.
        """
        pyramid = Pyramid(self.wanted(channels, size, self.finest), self.width, self.finest, "convolved")
        return FCOS(self, pyramid, outputs, size)


class FCOS(Deciding):
    """float32 [B, C, S, S] to boxes [B, D, 6]."""

    def __init__(self, config: Config, pyramid: Pyramid, outputs: int, size: int) -> None:
        from torchvision.models.detection._utils import BoxLinearCoder
        from torchvision.models.detection.fcos import FCOSHead

        super().__init__()
        self.pyramid = pyramid
        self.anchors = Anchors(pyramid, [[stride] for stride in pyramid.strides], (1.0,))  # a point: the middle
        self.head = FCOSHead(config.width, 1, outputs, config.depth)
        nn.init.constant_(self.head.regression_head.bbox_reg.bias, FIRST_GUESS)
        self.coder = BoxLinearCoder(normalize_by_size=True)
        self.limits = Limits(size, config.detections, config.nms_iou, config.score_threshold)
        self.candidates = config.candidates
        self.radius = config.radius

    def raw(self, pictures: Tensor) -> Raw:
        """See `Deciding.raw`."""
        said = self.head(self.pyramid(pictures))
        return Raw(said["cls_logits"].float(), said["bbox_regression"].float(), said["bbox_ctrness"].float(), self)

    def answer(self, raw: Raw) -> Tensor:
        """See `Deciding.answer`: a score is the geometric mean of those of the class and of the centerness."""
        scores = (raw.logits.detach().sigmoid() * raw.centerness.detach().sigmoid()).sqrt()
        best, places, classes = best_of_each_map(scores, self.anchors.of_each_map, self.candidates)
        boxes = self.coder.decode(picked(raw.codes.detach(), places), self.anchors.boxes[places])
        return answered(boxes, best, classes, self.limits)

    def match(self, truth: Truth) -> Tensor:
        """The smallest object that a point is in, near its middle, and of the size that its map is for: int64 [B, A],
        as `matching.at_objects` takes it."""
        points = self.anchors.boxes
        (x, y), strides = ((points[:, :2] + points[:, 2:]) / 2).unbind(dim=1), points[:, 2] - points[:, 0]
        left, top, right, bottom = truth.boxes[:, :, None].unbind(dim=1)
        beside = torch.maximum((x - (left + right) / 2).abs_(), (y - (top + bottom) / 2).abs_())
        reach = x - left, right - x, y - top, bottom - y
        furthest = torch.maximum(torch.maximum(reach[0], reach[1]), torch.maximum(reach[2], reach[3]))
        closest = torch.minimum(torch.minimum(reach[0], reach[1]), torch.minimum(reach[2], reach[3]))
        smallest, largest = 4 * strides, 8 * strides
        smallest[: self.anchors.of_each_map[0]] = 0
        largest[-self.anchors.of_each_map[-1] :] = torch.inf
        fits = (beside < self.radius * strides) & (closest > 0) & (furthest > smallest) & (furthest < largest)
        areas = (truth.boxes[:, 2:] - truth.boxes[:, :2]).prod(dim=1)
        size, which = best_objects(torch.where(fits, -areas[:, None], -torch.inf), truth)
        return without_crowds(torch.where(size > -torch.inf, which, BACKGROUND), points, truth)


@dataclass(frozen=True)
class Raw(Predictions):
    """What FCOS thinks of A points."""

    logits: Tensor
    """float32 [B, A, K]."""
    codes: Tensor
    """Left, up, right and down to the sides, in strides: float32 [B, A, 4], >= 0."""
    centerness: Tensor
    """How much in the middle of its object a point is, as a logit: float32 [B, A, 1]."""
    network: FCOS

    def matched(self, targets: Tensor) -> list[Matched]:
        """See `Predictions.matched`."""
        points, coder, truth = self.network.anchors.boxes, self.network.coder, truths(targets)
        objects = at_objects(self.network.match(truth), truth)
        shares, box_shares = shared(objects, each_picture_alike=False)
        codes, here = self.codes.flatten(0, 1)[objects.places], points[objects.places % len(points)]
        true_codes = coder.encode(here, objects.boxes)
        return [
            Matched(
                logits=self.logits,
                exclusive=False,
                labels=objects.labels,
                shares=shares,
                codes=codes,
                true_codes=true_codes,
                boxes=coder.decode(codes, here),
                true_boxes=objects.boxes,
                box_shares=box_shares,
                costs=Costs("focal", "giou"),
                further=self._centerness_loss(objects, true_codes, box_shares),
            )
        ]

    def _centerness_loss(self, objects: Objects, true_codes: Tensor, shares: Tensor) -> Tensor:
        """Equation 3 of the paper, and its cross-entropy."""
        across, down = true_codes[:, 0::2], true_codes[:, 1::2]
        true = (across.amin(dim=1) / across.amax(dim=1) * down.amin(dim=1) / down.amax(dim=1)).sqrt()
        said = self.centerness.flatten()[objects.places]
        return (F.binary_cross_entropy_with_logits(said, true, reduction="none") * shares).sum()
