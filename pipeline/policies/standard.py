"""The usual recipe for photographs: a random part, a mirror, a little light."""

from __future__ import annotations

from pipeline.contracts import Transform
from pipeline.policies._cropped import Cropped


class Config(Cropped):
    """Like the recipes for ImageNet."""

    def transforms(self, located: bool) -> list[Transform]:
        """Crop, mirror, light, cover."""
        return [*self.framed(), self.lit(), *self.covers()]
