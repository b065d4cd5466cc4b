"""What every detection network shares: its options, and its anchors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from pipeline.contracts import ModelConfig, Output
from pipeline.errors import UserError
from pipeline.models._detection.backbones import Wanted, known_backbone
from pipeline.models._detection.weights import check_named

if TYPE_CHECKING:
    from pipeline.models._detection.pyramid import Pyramid

SMALLEST = 32
"""Pixels a side: a map of stride 8 has 4 x 4 places then."""


class DetectorConfig(ModelConfig):
    """The options of every detection network."""

    gives: ClassVar[Output] = Output.BOXES

    backbone: str = "tiny"
    """`tiny`, which learns from scratch in minutes on a few processor cores; a classifier of torchvision, such as
    `resnet18`, `resnet50` or `mobilenet_v3_large`; or one of timm, as in `timm/resnet18`."""
    weights: str = ""
    """Path of a `.safetensors` or `.pth` file of weights for the backbone: of a classifier as its library saves it, or
    of a model that was trained here. Nothing is ever downloaded; empty: fresh weights."""
    weights_sha256: str = Field("", pattern="^([0-9a-f]{64})?$")
    """What that file must hash to, so that the same params mean the same weights; empty: whatever it holds."""
    width: int = Field(64, ge=32, le=1024, multiple_of=32)
    """Channels of the maps that objects are found in; 256 in the papers."""
    detections: int = Field(100, ge=1, le=1000)
    """D: boxes that are answered for a picture at most."""
    candidates: int = Field(1000, ge=1, le=10_000)
    """Boxes, the best of each map or class, that are compared with each other before overlapping ones are dropped."""
    score_threshold: float = Field(0.05, ge=0, lt=1)
    """Boxes with no higher score are not answered."""
    nms_iou: float = Field(0.5, gt=0, le=1)
    """Of two boxes of a class that overlap by more, the one with the lower score is dropped."""

    @model_validator(mode="after")
    def _says_of_what_the_digest_is(self) -> DetectorConfig:
        check_named(self.weights, self.weights_sha256)
        return self

    @field_validator("backbone")
    @classmethod
    def _is_known(cls, backbone: str) -> str:
        return known_backbone(backbone)

    def wanted(self, channels: int, size: int, finest: int) -> Wanted:
        """The backbone that is asked for.

        Raises:
            UserError: the pictures are too small for any map.
        """
        least = SMALLEST * finest // 8
        if size < least:
            raise UserError(
                f"params.yaml: model: this network needs pictures of {least} pixels or more, and augment.size is "
                f"{size}: set augment.size to {least} at least."
            )
        return Wanted(self.backbone, self.weights, self.weights_sha256, channels, size)


class Anchors(nn.Module):
    """The boxes that stand at every place of every map, of torchvision's generator, for pictures of one size.

    The places of a map lie a stride apart, the first of them in the corner (0, 0): that is where the middle of what a
    padded convolution sees lies.
    """

    boxes: Tensor

    def __init__(self, pyramid: Pyramid, sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> None:
        from torchvision.models.detection.anchor_utils import AnchorGenerator

        super().__init__()
        generator = AnchorGenerator(tuple(map(tuple, sizes)), (tuple(ratios),) * len(sizes))
        grids = [[side, side] for side in pyramid.sides]
        steps = [[torch.tensor(stride), torch.tensor(stride)] for stride in pyramid.strides]
        levels = generator.grid_anchors(grids, steps)
        self.of_each_map = [len(level) for level in levels]
        self.at_each_place = generator.num_anchors_per_location()[0]
        # Derived from the options, so no part of the state.
        self.register_buffer("boxes", torch.cat(levels), persistent=False)
