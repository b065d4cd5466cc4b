"""The two stages of Faster R-CNN: one proposes regions that may hold an object, the other says what is in them.

Source: Ren, He, Girshick, Sun. Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, 2015, on
a feature pyramid (Lin et al. 2017); torchvision's heads and anchors, on small backbones and pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from pipeline.models._detection.answers import Limits, answered, best_of_each_map, picked, suppressed
from pipeline.models._detection.matching import Truth, truths
from pipeline.models._detection.options import Anchors, DetectorConfig
from pipeline.models._detection.pyramid import Pyramid
from pipeline.models._detection.regions import BINS, Regions, features_of
from pipeline.models._detection.sampling import FirstStage, Sampled, SecondStage, sample
from pipeline.networks import Deciding, Matched, Predictions

RATIOS = (0.5, 1.0, 2.0)
LEAST_SIDE, LEAST_PROPOSED_SIDE = 1e-2, 1e-3


class TwoStageConfig(DetectorConfig):
    """One size of anchors on each map, in three shapes."""

    anchor: float = Field(4.0, gt=0, le=16)
    """Side of the anchors of a map, in strides of that map; 8 in torchvision, for pictures of 800 pixels."""
    finest: Literal[4, 8] = 4
    """Stride of the finest map: 4 finds objects half as large as 8, at three times the cost."""
    candidates: int = Field(500, ge=1, le=10_000)
    """Regions, the best of each map, that are compared with each other before overlapping ones are dropped."""
    proposals: int = Field(200, ge=1, le=2000)
    """Regions that the second stage looks at in a picture; 1000 in the paper, for pictures of 800 pixels."""
    proposal_nms_iou: float = Field(0.7, gt=0, le=1)
    """Of two regions that overlap by more, the one that is less likely to hold an object is dropped."""
    sampled: int = Field(128, ge=2, le=2048)
    """Regions, drawn by lot, that the second stage learns from in a picture, a quarter of them at objects; 512 in
    torchvision. The first stage learns from twice as many anchors, half of them at objects."""
    representation: int = Field(256, ge=8, le=4096)
    """Features of a region, from which the second stage tells class and box; 1024 in the paper."""

    def two_stages(self, channels: int, outputs: int, size: int) -> TwoStages:
        """Both, for pictures [B, C, S, S] of K classes.

        Raises:
            UserError: the backbone or its weights do not fit, or the pictures are too small.
        """
        pyramid = Pyramid(self.wanted(channels, size, self.finest), self.width, self.finest, "pooled")
        return TwoStages(self, pyramid, outputs, size)


class TwoStages(Deciding):
    """float32 [B, C, S, S] to boxes [B, D, 6]."""

    def __init__(self, config: TwoStageConfig, pyramid: Pyramid, outputs: int, size: int) -> None:
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.models.detection.rpn import RPNHead

        super().__init__()
        self.pyramid = pyramid
        self.anchors = Anchors(pyramid, [[config.anchor * stride] for stride in pyramid.strides], RATIOS)
        self.proposing = RPNHead(config.width, self.anchors.at_each_place)
        self.head = TwoMLPHead(config.width * BINS**2, config.representation)
        self.predictor = FastRCNNPredictor(config.representation, outputs + 1)
        self.first = FirstStage(2 * config.sampled)
        self.second = SecondStage(config.sampled)
        self.limits = Limits(size, config.detections, config.nms_iou, config.score_threshold, LEAST_SIDE)
        self.candidates, self.proposals = config.candidates, config.proposals
        self.proposal_nms_iou = config.proposal_nms_iou

    def raw(self, pictures: Tensor) -> Raw:
        """See `Deciding.raw`."""
        maps = self.pyramid(pictures)
        logits, codes = self.proposing(maps)
        objectness = torch.cat([flattened(each, 1) for each in logits], dim=1).float()
        deltas = torch.cat([flattened(each, 4) for each in codes], dim=1).float()
        # The coarsest map proposes regions and none is cut from it, as in torchvision.
        seen = [each.float() for each in maps[:-1]]
        return Raw(seen, objectness, deltas, *self.propose(objectness.detach(), deltas.detach()), self)

    def propose(self, objectness: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The P regions most likely to hold an object: float32 [B, P, 4], and which of these there are: bool [B, P]."""
        best, places, _ = best_of_each_map(objectness, self.anchors.of_each_map, self.candidates)
        codes, anchors = picked(codes, places), self.anchors.boxes[places]
        boxes = self.first.coder.decoded(codes, anchors).clamp(0, self.limits.size)
        large = (boxes[..., 2:] - boxes[..., :2] >= LEAST_PROPOSED_SIDE).all(dim=2)
        of_map = torch.cat(
            [
                torch.full((min(self.candidates, count),), level, device=boxes.device)
                for level, count in enumerate(self.anchors.of_each_map)
            ]
        )
        scores = torch.where(large, best.sigmoid(), 0.0)
        kept, places = suppressed(boxes, scores, of_map.expand_as(scores), self.proposals, self.proposal_nms_iou)
        return torch.where(kept[..., None] > 0, picked(boxes, places), 0.0), kept > 0

    @property
    def strides(self) -> list[int]:
        """Of the maps that regions are seen on."""
        return self.pyramid.strides[:-1]

    def look(self, maps: list[Tensor], regions: Regions) -> tuple[Tensor, Tensor]:
        """What is in n regions: logits [n, K + 1], and codes [n, (K + 1) * 4]."""
        features = self.head(features_of(maps, self.strides, regions))
        logits, codes = self.predictor(features)
        return logits.float(), codes.float()

    def answer(self, raw: Raw) -> Tensor:
        """See `Deciding.answer`."""
        count, each = raw.proposals.shape[:2]
        pictures = torch.arange(count, device=raw.proposals.device)[:, None].expand(count, each).flatten()
        regions = raw.proposals.flatten(0, 1)
        found = Regions.of(regions, pictures, self.strides)
        logits, codes = self.look([maps.detach() for maps in raw.maps], found)
        codes = codes.detach().view(count, each, -1, 4)[:, :, 1:]
        boxes = self.second.coder.decoded(codes, raw.proposals[:, :, None])
        scores = F.softmax(logits.detach(), dim=1).view(count, each, -1)[:, :, 1:] * raw.there[..., None]
        classes = torch.arange(scores.shape[2], device=scores.device).expand_as(scores)
        return answered(boxes.flatten(1, 2), scores.flatten(1), classes.flatten(1), self.limits)


def flattened(maps: Tensor, columns: int) -> Tensor:
    """[B, A * columns, H, W] to [B, H * W * A, columns]: in the order of the anchors."""
    count, _, height, width = maps.shape
    return maps.view(count, -1, columns, height, width).permute(0, 3, 4, 1, 2).reshape(count, -1, columns)


@dataclass(frozen=True)
class Raw(Predictions):
    """What the first stage thinks of A anchors, and where the second one shall look."""

    maps: list[Tensor]
    """float32 [B, width, S/stride, S/stride], of each map that regions are cut from."""
    objectness: Tensor
    """float32 [B, A, 1]."""
    codes: Tensor
    """float32 [B, A, 4]."""
    proposals: Tensor
    """float32 [B, P, 4], without gradient."""
    there: Tensor
    """bool [B, P]; the others are padding."""
    network: TwoStages

    def matched(self, targets: Tensor) -> list[Matched]:
        """See `Predictions.matched`."""
        return self.sampled(truths(targets))[0]

    def sampled(self, truth: Truth) -> tuple[list[Matched], Sampled]:
        """What is judged of the first stage, and of the second, which looks at some regions for it alone; and these."""
        network, first, second = self.network, self.network.first, self.network.second
        anchors = network.anchors.boxes
        anchored, sampled = sample(
            first.candidates(anchors, truth),
            second.candidates(self.proposals, self.there, truth),
            truth,
            network.strides,
        )
        logits, codes = network.look(self.maps, sampled.regions)
        judged = first.matched(self.objectness, self.codes, anchors, anchored)
        return [judged, second.matched(logits, codes, sampled)], sampled
