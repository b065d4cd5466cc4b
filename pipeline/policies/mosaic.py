"""For objects and masks on few pictures: mosaics of four, moved and scaled, perhaps mirrored, in another light.

Sources: Bochkovskiy, Wang, Liao. YOLOv4, 2020, section 3.3 (mosaics); Ge et al. YOLOX, 2021, section 2 (they end before
the training does).
"""

from __future__ import annotations

from pydantic import Field

from pipeline.contracts import Transform
from pipeline.policies._mirrored import Mirrored

CONSTANT = 0  # OpenCV's BORDER_CONSTANT: where things have places, nothing may be shown twice
GREY = 114


class Config(Mirrored):
    """Mosaics end after nine tenths of the epochs: the last are spent on pictures as they will come."""

    share: float = Field(0.5, ge=0, le=1)
    """Of the training pictures, so many are mosaics of four."""
    scale: float = Field(0.25, ge=0, lt=1)
    """Largest growth or shrinkage, as a share of the side."""
    shift: float = Field(0.1, ge=0, le=0.5)
    """Furthest move along each axis, as a share of the side."""
    rotate: float = Field(0, ge=0, le=180)
    """Largest turn either way, in degrees. Of a box that turns the box around it is learnt, which is larger than the
    object's."""
    brightness: float = Field(0.2, ge=0, le=1)
    """Largest change of brightness, as a share of what it was."""
    contrast: float = Field(0.2, ge=0, le=1)
    """Largest change of contrast, likewise."""
    saturation: float = Field(0.2, ge=0, le=1)
    """Largest change of saturation, likewise. Grey stays grey."""
    hue: float = Field(0.02, ge=0, le=0.5)
    """Largest turn of the hue, as a share of the circle of colours."""

    @property
    def packed(self) -> int:
        """S: there is nothing to crop."""
        return self.size

    @property
    def mosaic(self) -> float:
        """See `PolicyConfig.mosaic`."""
        return self.share

    def transforms(self, located: bool) -> list[Transform]:
        """Move and scale, mirror, light and colours."""
        moved = {
            "scale": [1 - self.scale, 1 + self.scale],
            "keep_ratio": True,
            "translate_percent": [-self.shift, self.shift],
            "rotate": [-self.rotate, self.rotate],
            "border_mode": CONSTANT,
            "fill": GREY,
            "p": 1.0,
        }
        lit = {
            "brightness": [1 - self.brightness, 1 + self.brightness],
            "contrast": [1 - self.contrast, 1 + self.contrast],
            "saturation": [1 - self.saturation, 1 + self.saturation],
            "hue": [-self.hue, self.hue],
            "p": 0.8,
        }
        return [
            Transform(name="Affine", arguments=moved),
            *self.mirrors(),
            Transform(name="ColorJitter", arguments=lit),
        ]
