"""What policies share that cover parts of pictures.

Source: Zhong, Zheng, Kang, Li, Yang. Random Erasing Data Augmentation, 2017, whose areas and proportions these are;
a rectangle is in one colour here, and in noise there.
"""

from __future__ import annotations

from pydantic import Field

from pipeline.contracts import Transform
from pipeline.policies._mirrored import Mirrored


class Covered(Mirrored):
    """Random erasing."""

    erase: float = Field(0, ge=0, le=1)
    """Of the pictures, so many have a rectangle of 2 to 30 % of their area covered, in any colour (random erasing):
    for long trainings."""

    def covers(self) -> list[Transform]:
        """The rectangle, if there is one."""
        arguments = {"scale": [0.02, 0.3], "ratio": [0.3, 3.3], "fill": "random_uniform", "p": self.erase}
        return [Transform(name="Erasing", arguments=arguments)] if self.erase else []
