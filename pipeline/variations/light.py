"""Pictures in another light: brighter or darker, harder or softer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import stringzilla  # type: ignore[import-not-found]  # it comes with Albumentations, and without types
import torch
from torch import Tensor

from pipeline.variations.draws import between
from pipeline.variations.sight import Sight
from pipeline.variations.step import Drawn, Given, Spec, Step, agrees

WHITE = 255
LEVELS = np.arange(WHITE + 1, dtype=np.float32)


@dataclass(frozen=True)
class BrightnessContrast(Step):
    """The values are tables: of each grey level the new one, uint8 [B, 256]."""

    side: int
    share: float
    """Of the pictures."""
    brightness: tuple[float, float]
    """Added, as a share of white."""
    contrast: tuple[float, float]
    """Levels are multiplied by 1 and so much more."""

    @classmethod
    def read(cls, spec: Spec, given: Given) -> Self | None:
        """`RandomBrightnessContrast` from the serialised form; None: another way of it than is known here."""
        if not agrees(spec, brightness_by_max=True, ensure_safe_range=False):
            return None
        return cls(given.side, spec["p"], tuple(spec["brightness_limit"]), tuple(spec["contrast_limit"]))

    @property
    def takes(self) -> int:
        """Whether, contrast, brightness."""
        return 3

    def drawn(self, random: np.ndarray) -> Drawn:
        """See `Step`."""
        factors = (1.0 + between(random[:, 1:2], *self.contrast)).astype(np.float32)
        added = (between(random[:, 2:3], *self.brightness) * WHITE).astype(np.float32)
        tables = np.clip(LEVELS * factors + added, 0, WHITE).astype(np.uint8)
        return Drawn(random[:, 0] < self.share, tables)

    def on_host(self, pixels: np.ndarray, how: np.ndarray, room: np.ndarray) -> np.ndarray:
        """See `Step`. (Measured on 224 x 224 x 3: copied and translated in place 12 us, `cv2.LUT` 36 us.)"""
        np.copyto(room, pixels)
        stringzilla.translate(room.data, how.data, inplace=True)
        return room

    def on_device(self, sight: Sight, happens: Tensor, values: Tensor) -> Sight:
        """See `Step`."""
        straight = torch.arange(WHITE + 1, dtype=torch.uint8, device=values.device)
        tables = torch.where(happens[:, None], values, straight)
        pictures = sight.painted()
        lit = tables.gather(1, pictures.flatten(1).long())
        return Sight.all_of(lit.view_as(pictures))
