"""Everything of `standard`, and turns, colours, blur and holes: for long trainings and large networks on few pictures.

Source: the holes are those of DeVries, Taylor. Improved Regularization of Convolutional Neural Networks with Cutout,
2017, in several sizes and colours.
"""

from __future__ import annotations

from pydantic import Field

from pipeline.contracts import Transform
from pipeline.policies._cropped import Cropped

CONSTANT = 0  # BORDER_CONSTANT: where things have places, nothing may be shown twice
REFLECT = 4  # OpenCV's BORDER_REFLECT_101: a turned picture is continued by its mirror image, without black corners


class Config(Cropped):
    """Each change happens to some of the pictures only, so that the network sees plain ones too."""

    rotate: float = Field(15, ge=0, le=180)
    """Largest turn either way, in degrees."""
    colour: float = Field(0.2, ge=0, le=1)
    """Largest change of saturation, as a share of what it was, and a quarter of it of the hue. Grey stays grey."""
    holes: bool = True
    """Cover up to four patches of some pictures, so that no single part decides."""

    def transforms(self, located: bool) -> list[Transform]:
        """Turn, crop, mirror, light, colour, blur, holes, cover."""
        turn = {"limit": [-self.rotate, self.rotate], "border_mode": CONSTANT if located else REFLECT, "p": 0.5}
        colour = {
            "brightness": [1.0, 1.0],
            "contrast": [1.0, 1.0],
            "saturation": [1 - self.colour, 1 + self.colour],
            "hue": [-self.colour / 4, self.colour / 4],
            "p": 0.5,
        }
        blur = {"sigma_limit": [0.3, 1.0], "p": 0.1}
        holes = {
            "num_holes_range": [1, 4],
            "hole_height_range": [0.1, 0.25],
            "hole_width_range": [0.1, 0.25],
            "fill": "random_uniform",
            "p": 0.25,
        }
        return [
            Transform(name="Rotate", arguments=turn),
            *self.framed(),
            self.lit(),
            Transform(name="ColorJitter", arguments=colour),
            Transform(name="GaussianBlur", arguments=blur),
            *([Transform(name="CoarseDropout", arguments=holes)] if self.holes else []),
            *self.covers(),
        ]
