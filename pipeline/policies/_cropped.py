"""What `standard` and `strong` share: a random part of the picture, perhaps mirrored.

Source: Szegedy et al. Going Deeper with Convolutions, 2014, section 6; the part is larger here, since small data sets
rarely have pictures to spare for crops that miss the subject.
"""

from __future__ import annotations

from pydantic import Field

from pipeline.contracts import Transform
from pipeline.policies._covered import Covered


class Cropped(Covered):
    """Pictures are kept an eighth larger than the network sees them, as 256 pixels are for 224."""

    smallest_crop: float = Field(0.35, gt=0, le=1)
    """The smallest part of the picture, as a share of its area, that a training picture may show."""
    brightness: float = Field(0.2, ge=0, le=1)
    """Largest change of brightness, as a share of full white."""
    contrast: float = Field(0.2, ge=0, le=1)
    """Largest change of contrast, as a share of what it was."""

    @property
    def packed(self) -> int:
        """8/7 of S."""
        return round(self.size * 8 / 7)

    def framed(self) -> list[Transform]:
        """The random part, at the network's size, and the mirror."""
        crop = {"size": [self.size, self.size], "scale": [self.smallest_crop, 1.0]}
        return [Transform(name="RandomResizedCrop", arguments=crop), *self.mirrors()]

    def lit(self) -> Transform:
        """Another light: brighter or darker, harder or softer."""
        limits = {
            "brightness_limit": [-self.brightness, self.brightness],
            "contrast_limit": [-self.contrast, self.contrast],
        }
        return Transform(name="RandomBrightnessContrast", arguments={**limits, "p": 0.8})
