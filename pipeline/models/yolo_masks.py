"""YOLO of our own that tells of each box it answers with which of its cells lie on the object, by prototypes.

Sources: those of `yolo.py`; Bolya, Zhou, Xiao, Lee. YOLACT: Real-time Instance Segmentation, 2019, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.contracts import Output
from pipeline.models._detection.answers import picked
from pipeline.models._detection.matching import truths
from pipeline.models._detection.objects_of_map import Mapped, masks_in_boxes, objects_of_map
from pipeline.models._yolo.assignment import Assigned
from pipeline.models._yolo.network import LEAST, Yolo
from pipeline.models._yolo.network import Raw as Found
from pipeline.models._yolo.options import YoloConfig
from pipeline.models._yolo.prototypes import Coefficients, Prototypes, within_boxes
from pipeline.networks import Deciding, Matched, MatchedMasks, Predictions

MASK_WEIGHT = 6.125
"""As in YOLACT."""


class Config(YoloConfig):
    """A mask costs next to nothing, as all objects share the prototypes; Mask R-CNN looks at each for its own."""

    gives: ClassVar[Output] = Output.INSTANCES

    mask: Literal[14, 28] = 28
    """m: cells along each side of a mask that is answered."""
    prototypes: int = Field(32, ge=1, le=256)
    """Q: maps of which every mask is a sum."""
    mask_stride: Literal[2, 4] = 4
    """Of the prototypes: 2 tells the outlines of small objects, at four times the cost."""
    mask_width: int = Field(64, ge=8, le=1024)
    """Channels of the maps that prototypes are made of; 256 in the paper."""
    learnt: int = Field(100, ge=1, le=10_000)
    """Places that masks are learnt at, the best of a batch: so many for each of its pictures."""

    def build(self, channels: int, outputs: int, size: int) -> nn.Module:
        """See `ModelConfig.build`.

        Raises:
            UserError: the backbone or its weights do not fit, or the pictures are too small.
        """
        return YoloMasks(self, Yolo(self, channels, outputs, size))


class YoloMasks(Deciding):
    """float32 [B, C, S, S] to boxes with masks [B, D, 6 + m * m]."""

    def __init__(self, config: Config, detector: Yolo) -> None:
        super().__init__()
        self.detector = detector
        widths, doublings = detector.trunk.widths, (config.finest // config.mask_stride).bit_length() - 1
        self.prototypes = Prototypes(widths[0], config.mask_width, config.prototypes, doublings)
        self.coefficients = Coefficients(widths, detector.head.width, config.prototypes, config.depth)
        self.stride = config.finest >> doublings
        self.mask, self.learnt = config.mask, config.learnt

    def raw(self, pictures: Tensor) -> Raw:
        """See `Deciding.raw`."""
        maps = self.detector.trunk(pictures)
        return Raw(self.detector.think(maps), self.prototypes(maps[0]), self.coefficients(maps), self)

    def answer(self, raw: Raw) -> Tensor:
        """See `Deciding.answer`."""
        rows, places = self.detector.found(raw.found)
        told = self.told(raw.prototypes.detach(), picked(raw.coefficients.detach(), places), rows[..., :4]).sigmoid()
        return torch.cat([rows, torch.where(rows[..., 4:5] > 0, told.flatten(2), 0.0)], dim=2)

    def told(self, prototypes: Tensor, coefficients: Tensor, boxes: Tensor) -> Tensor:
        """Masks within boxes [B, N, 4]: prototypes [B, Q, H, W], of each [B, N, Q], to logits float32 [B, N, m, m]."""
        sums = torch.einsum("bqhw,bnq->bnhw", prototypes, coefficients)
        masks = within_boxes(sums.flatten(0, 1), boxes.flatten(0, 1), self.stride, self.mask)
        return masks.float().view(*boxes.shape[:2], self.mask, self.mask)


@dataclass(frozen=True)
class Raw(Predictions):
    """What is thought of A places, and of the picture as a whole."""

    found: Found
    prototypes: Tensor
    """float32 [B, Q, H, W]."""
    coefficients: Tensor
    """float32 [B, A, Q]."""
    network: YoloMasks

    def matched(self, targets: Tensor) -> list[Matched]:
        """See `Predictions.matched`; targets are uint8 [B, S, S, 3], see `contracts.Target.INSTANCES`.

        A mask is learnt within the box of its object.
        """
        mapped = objects_of_map(targets)
        truth = truths(mapped.rows)
        at = self.found.assigned(truth)
        matched = self.found.judged(at)
        masks = self._masks(at, mapped, truth.rows[at.objects])
        return [replace(matched, masks=masks, costs=replace(matched.costs, mask_weight=MASK_WEIGHT))]

    def _masks(self, at: Assigned, mapped: Mapped, objects: Tensor) -> MatchedMasks:
        """The masks of the best places, of which each counts as its box does; `objects`: their numbers in the maps."""
        count, each = self.coefficients.shape[:2]
        most, parts, pictures = self.network.learnt * count, at.counts, at.places // each
        chosen: slice | Tensor = slice(None)
        if len(at.shares) > most:
            chosen = at.shares.topk(most).indices.sort().values
            every = torch.arange(count, device=pictures.device)
            parts = (pictures[chosen] == every[:, None]).sum(dim=1).tolist()  # the device is waited for
        pictures, boxes, objects = pictures[chosen], at.boxes[chosen], objects[chosen]
        coefficients = self.coefficients.flatten(0, 1)[at.places[chosen]]
        logits = [
            self.network.told(prototypes[None], of_picture[None], here[None])[0]
            for prototypes, of_picture, here in zip(
                self.prototypes, torch.split(coefficients, parts), torch.split(boxes, parts), strict=True
            )
        ]
        true = masks_in_boxes(mapped.numbers, objects, boxes, pictures, self.network.mask)
        shares = at.shares[chosen]
        return MatchedMasks(torch.cat(logits), true, shares / shares.sum().clamp(min=LEAST))
