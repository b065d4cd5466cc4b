"""Pictures made larger: by their mirror image, by their edge, or in one grey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.masks import VOID
from pipeline.variations.sight import Sight
from pipeline.variations.step import Drawn, Given, Spec, Step, agrees, always


@dataclass(frozen=True)
class Pad(Step):
    """The same for every picture: no values."""

    moves: ClassVar[bool] = True

    side: int
    given: int
    border: int
    """OpenCV's number for what lies outside: 0 one grey, 1 the edge, 4 the mirror image without the edge itself."""
    fill: float
    """The grey."""

    @classmethod
    def read(cls, spec: Spec, given: Given) -> Self | None:
        """`PadIfNeeded` from the serialised form; None: another way of it than is known here."""
        known = agrees(spec, p=1.0, position="center", pad_height_divisor=None, pad_width_divisor=None)
        side, border = spec["min_height"], spec["border_mode"]
        voided = not given.located or (border == cv2.BORDER_CONSTANT and spec["fill_mask"] == VOID)
        if not known or side is None or side != spec["min_width"] or not voided:
            return None
        if border not in AROUND or not isinstance(spec["fill"], int | float):
            return None
        return cls(max(side, given.side), given.side, border, spec["fill"])

    @property
    def takes(self) -> int:
        """Nothing is drawn."""
        return 0

    @property
    def before(self) -> int:
        """Rows above and columns to the left."""
        return (self.side - self.given) // 2

    def drawn(self, random: np.ndarray) -> Drawn:
        """See `Step`."""
        return always(random, np.zeros((len(random), 0)))

    def on_host(self, pixels: np.ndarray, how: np.ndarray, room: np.ndarray) -> np.ndarray:
        """See `Step`."""
        return self._padded(pixels, room, self.fill)

    def mask_on_host(self, mask: np.ndarray, how: np.ndarray, room: np.ndarray) -> np.ndarray:
        """See `Step`."""
        return self._padded(mask, room, VOID)

    def _padded(self, pixels: np.ndarray, room: np.ndarray, fill: float) -> np.ndarray:
        before, after = self.before, self.side - self.given - self.before
        colour = [fill] * 4
        cv2.copyMakeBorder(pixels, before, after, before, after, self.border, dst=room, value=colour)
        return room

    def on_device(self, sight: Sight, happens: Tensor, values: Tensor) -> Sight:
        """See `Step`."""
        if self.border == cv2.BORDER_CONSTANT:
            after = self.side - self.given - self.before
            around = (0, 0, self.before, after, self.before, after)
            return Sight.all_of(F.pad(sight.painted(), around, value=int(self.fill)))
        places = torch.arange(self.side, device=happens.device) - self.before
        chosen = AROUND[self.border](places, self.given).expand(len(happens), -1)
        return sight.along(chosen, chosen)

    def placed(self, places: np.ndarray, values: np.ndarray) -> np.ndarray:
        """See `Step`."""
        return places + self.before


def nearest(places: Tensor, side: int) -> Tensor:
    """Rows or columns, those outside 0..side-1 replaced by the one at the edge."""
    return places.clamp(0, side - 1)


def reflected(places: Tensor, side: int) -> Tensor:
    """Likewise by those on the other side of the edge, the edge itself left out."""
    if side == 1:
        return torch.zeros_like(places)
    around = places.abs() % (2 * (side - 1))
    return torch.where(around >= side, 2 * (side - 1) - around, around)


AROUND = {cv2.BORDER_CONSTANT: nearest, cv2.BORDER_REPLICATE: nearest, cv2.BORDER_REFLECT_101: reflected}
"""Which row or column is seen outside, by OpenCV's number for it; of one grey, the nearest one is painted over."""
