"""The options of every network that is made of these parts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from pipeline.models._detection.backbones import known_backbone
from pipeline.models._detection.options import DetectorConfig
from pipeline.models._yolo.assignment import Rule
from pipeline.models._yolo.trunk import OWN, SCALES, Scale


class YoloConfig(DetectorConfig):
    """A body, a neck and a head, all of one size."""

    size: Literal["n", "s", "m", "l"] = "n"
    """Depths and widths: n learns in minutes on a few processor cores, l wants an accelerator."""
    backbone: str = OWN
    """`own`, of the same size; `tiny`; a classifier of torchvision, such as `resnet18`; or one of timm, as in
    `timm/resnet18`."""
    width: int = Field(0, ge=0, le=1024, multiple_of=32)
    """Channels of the head; 0: as many as the finest map has."""
    finest: Literal[4, 8] = 8
    """Stride of the finest map: 4 finds objects half as large as 8, at about twice the cost."""
    depth: int = Field(2, ge=1, le=4)
    """Convolutions in each of the two towers of the head."""
    bins: int = Field(16, ge=4, le=64)
    """Whole numbers of strides, from 0, that a side of a box may be away from a place; between two of them it is told
    by how likely each is."""
    candidates: int = Field(300, ge=1, le=10_000)
    """Boxes, the best of each map, that are compared with each other before overlapping ones are dropped."""
    score_threshold: float = Field(0.01, ge=0, lt=1)
    """Boxes with no higher score are not answered."""
    nms_iou: float = Field(0.6, gt=0, le=1)
    """Of two boxes of a class that overlap by more, the one with the lower score is dropped."""
    places: int = Field(10, ge=1, le=100)
    """Places that learn an object, at most: those that tell its class and its box best."""
    score_power: float = Field(1.0, ge=0, le=10)
    """How much the class counts in that."""
    overlap_power: float = Field(6.0, ge=0, le=10)
    """How much the box counts in that."""

    @field_validator("backbone")
    @classmethod
    def _is_known(cls, backbone: str) -> str:
        return backbone if backbone == OWN else known_backbone(backbone)

    @property
    def scale(self) -> Scale:
        """What depths and widths are multiplied by."""
        return SCALES[self.size]

    @property
    def rule(self) -> Rule:
        """Which places learn an object."""
        return Rule(self.places, self.score_power, self.overlap_power)
