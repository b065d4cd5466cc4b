"""RetinaNet: boxes from anchors on a feature pyramid, in one stage, by a loss that lets easy background fade.

Source: Lin, Goyal, Girshick, He, Dollar. Focal Loss for Dense Object Detection, 2017; torchvision's heads and anchors,
on small backbones and pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.models._detection.answers import Limits, answered, best_of_each_map, picked
from pipeline.models._detection.coding import Coder
from pipeline.models._detection.matching import (
    Truth,
    at_objects,
    best_objects,
    beyond,
    nearest,
    overlaps,
    shared,
    truths,
    without_crowds,
)
from pipeline.models._detection.options import Anchors, DetectorConfig
from pipeline.models._detection.pyramid import Pyramid
from pipeline.networks import Costs, Deciding, Matched, Predictions

OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RATIOS = (0.5, 1.0, 2.0)
GROUPS = 32
AT_OBJECT, BACKGROUND_BELOW = 0.5, 0.4
"""IoU of an anchor with an object, as in the paper; between the two it counts for nothing."""


class Config(DetectorConfig):
    """Nine anchors at every place: three sizes in each of three shapes."""

    anchor: float = Field(2.0, gt=0, le=16)
    """Side of the smallest anchors of a map, in strides of that map: 2 finds objects of about 10 pixels and more on a
    map of stride 8; 4 in the paper, for pictures of 800 pixels."""
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
        return RetinaNet(self, pyramid, outputs, size)


class RetinaNet(Deciding):
    """float32 [B, C, S, S] to boxes [B, D, 6]."""

    def __init__(self, config: Config, pyramid: Pyramid, outputs: int, size: int) -> None:
        from torchvision.models.detection.retinanet import RetinaNetHead

        super().__init__()
        self.pyramid = pyramid
        sizes = [[config.anchor * stride * step for step in OCTAVE] for stride in pyramid.strides]
        self.anchors = Anchors(pyramid, sizes, RATIOS)
        # Without normalisation these heads hardly learn from scratch; torchvision's second version has the same.
        norm = partial(nn.GroupNorm, GROUPS)
        self.head = RetinaNetHead(config.width, self.anchors.at_each_place, outputs, norm)
        for tower in (self.head.classification_head, self.head.regression_head):
            del tower.conv[config.depth :]
        self.coder = Coder(1.0, 1.0)
        self.limits = Limits(size, config.detections, config.nms_iou, config.score_threshold)
        self.candidates = config.candidates

    def raw(self, pictures: Tensor) -> Raw:
        """See `Deciding.raw`."""
        said = self.head(self.pyramid(pictures))
        return Raw(said["cls_logits"].float(), said["bbox_regression"].float(), self)

    def answer(self, raw: Raw) -> Tensor:
        """See `Deciding.answer`."""
        scores = raw.logits.detach().sigmoid()
        best, places, classes = best_of_each_map(scores, self.anchors.of_each_map, self.candidates)
        boxes = self.coder.decoded(picked(raw.codes.detach(), places), self.anchors.boxes[places])
        return answered(boxes, best, classes, self.limits)

    def match(self, truth: Truth) -> Tensor:
        """The object that an anchor overlaps by half, or as much as any other anchor does: int64 [B, A], as
        `matching.at_objects` takes it."""
        anchors = self.anchors.boxes
        overlap = overlaps(truth.boxes, anchors[None])
        most, which = best_objects(overlap, truth)
        matches = torch.where(nearest(overlap, truth), which, beyond(most, which, AT_OBJECT, BACKGROUND_BELOW))
        return without_crowds(matches, anchors, truth)


@dataclass(frozen=True)
class Raw(Predictions):
    """What RetinaNet thinks of A anchors."""

    logits: Tensor
    """float32 [B, A, K]."""
    codes: Tensor
    """float32 [B, A, 4]."""
    network: RetinaNet

    def matched(self, targets: Tensor) -> list[Matched]:
        """See `Predictions.matched`."""
        anchors, coder, truth = self.network.anchors.boxes, self.network.coder, truths(targets)
        objects = at_objects(self.network.match(truth), truth)
        shares, box_shares = shared(objects, each_picture_alike=True)
        codes, here = self.codes.flatten(0, 1)[objects.places], anchors[objects.places % len(anchors)]
        return [
            Matched(
                logits=self.logits,
                exclusive=False,
                labels=objects.labels,
                shares=shares,
                codes=codes,
                true_codes=coder.encoded(objects.boxes, here),
                boxes=coder.decoded(codes, here),
                true_boxes=objects.boxes,
                box_shares=box_shares,
                costs=Costs("focal", "l1"),
            )
        ]
