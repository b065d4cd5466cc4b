"""Mask R-CNN: Faster R-CNN that tells of each box it answers with which of its cells lie on the object.

Source: He, Gkioxari, Dollar, Girshick. Mask R-CNN, 2017; torchvision's heads, on small backbones and pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.contracts import Output
from pipeline.models._detection.matching import truths
from pipeline.models._detection.objects_of_map import masks_in_boxes, objects_of_map
from pipeline.models._detection.regions import Regions, features_of
from pipeline.models._detection.two_stages import Raw as Found
from pipeline.models._detection.two_stages import TwoStageConfig, TwoStages
from pipeline.networks import Deciding, Matched, MatchedMasks, Predictions


class Config(TwoStageConfig):
    """Masks are told for boxes alone: as many as are answered, or, in learning, are at objects."""

    gives: ClassVar[Output] = Output.INSTANCES

    mask: Literal[14, 28] = 28
    """m: cells along each side of a mask; 14 costs a quarter, and is enough for objects of about as many pixels."""
    mask_width: int = Field(64, ge=8, le=1024)
    """Channels of the maps that masks are told from; 256 in the paper."""
    mask_depth: int = Field(2, ge=1, le=8)
    """Convolutions before the last two; 4 in the paper."""

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the backbone or its weights do not fit, or the pictures are too small.
        """
        return MaskRCNN(self, self.two_stages(channels, outputs, size), outputs)


class MaskRCNN(Deciding):
    """float32 [B, C, S, S] to boxes with masks [B, D, 6 + m * m]."""

    def __init__(self, config: Config, detector: TwoStages, outputs: int) -> None:
        super().__init__()
        self.detector = detector
        self.masks = Masks(config, detector.strides, outputs)

    def raw(self, pictures: Tensor) -> Raw:
        """See `Deciding.raw`."""
        return Raw(self.detector.raw(pictures), self)

    def answer(self, raw: Raw) -> Tensor:
        """See `Deciding.answer`: masks are told for the boxes that are left, and of their classes alone."""
        rows = self.detector.answer(raw.found)
        pictures, places = (rows[..., 4] > 0).nonzero(as_tuple=True)
        there = rows[pictures, places]
        maps = [each.detach() for each in raw.found.maps]
        regions = Regions.of(there[:, :4], pictures, self.detector.strides)
        told = self.masks(maps, regions, there[:, 5].long()).detach().sigmoid().flatten(1)
        masks = told.new_zeros(*rows.shape[:2], told.shape[1]).index_put((pictures, places), told)
        return torch.cat([rows, masks], dim=2)


class Masks(nn.Module):
    """Which cells of some boxes lie on their objects."""

    def __init__(self, config: Config, strides: Sequence[int], outputs: int) -> None:
        from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

        super().__init__()
        self.strides, self.bins = strides, config.mask // 2
        self.head = MaskRCNNHeads(config.width, (config.mask_width,) * config.mask_depth, 1)
        self.predictor = MaskRCNNPredictor(config.mask_width, config.mask_width, outputs)

    def forward(self, maps: Sequence[Tensor], regions: Regions, classes: Tensor) -> Tensor:
        """Maps, and n regions of classes int64 [n], to logits float32 [n, m, m]."""
        features = self.head(features_of(maps, self.strides, regions, self.bins))
        logits: Tensor = self.predictor(features).float()
        side = logits.shape[-1]
        return logits.gather(1, classes[:, None, None, None].expand(-1, 1, side, side))[:, 0]


@dataclass(frozen=True)
class Raw(Predictions):
    """What Mask R-CNN thinks of a batch."""

    found: Found
    network: MaskRCNN

    def matched(self, targets: Tensor) -> list[Matched]:
        """See `Predictions.matched`; targets are uint8 [B, S, S, 3], see `contracts.Target.INSTANCES`.

        A mask is learnt within the box of its region, not of its object: those are what masks are told for.
        """
        mapped = objects_of_map(targets)
        (first, second), sampled = self.found.sampled(truths(mapped.rows))
        regions, count = sampled.regions_at, len(sampled.at)
        logits = self.network.masks(self.found.maps, regions, sampled.labels[sampled.at])
        true = masks_in_boxes(mapped.numbers, sampled.rows, regions.boxes, regions.pictures, logits.shape[-1])
        shares = logits.new_full((count,), 1 / max(1, count))
        return [first, replace(second, masks=MatchedMasks(logits, true, shares))]
