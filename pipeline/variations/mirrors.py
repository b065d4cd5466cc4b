"""Pictures mirrored, left to right or top to bottom."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import cv2
import numpy as np
import torch
from torch import Tensor

from pipeline.variations.sight import Sight
from pipeline.variations.step import Drawn, Given, Spec, Step


@dataclass(frozen=True)
class Mirror(Step):
    """Some pictures are mirrored; there are no values."""

    moves: ClassVar[bool] = True
    mirrors: ClassVar[bool] = True
    code: ClassVar[int]
    """By which OpenCV calls it."""

    side: int
    share: float
    """Of the pictures."""

    @classmethod
    def read(cls, spec: Spec, given: Given) -> Self | None:
        """From the serialised form."""
        return cls(given.side, spec["p"])

    @property
    def takes(self) -> int:
        """Whether."""
        return 1

    def drawn(self, random: np.ndarray) -> Drawn:
        """See `Step`."""
        return Drawn(random[:, 0] < self.share, np.zeros((len(random), 0)))

    def on_host(self, pixels: np.ndarray, how: np.ndarray, room: np.ndarray) -> np.ndarray:
        """See `Step`."""
        cv2.flip(pixels, self.code, dst=room)
        return room

    def on_device(self, sight: Sight, happens: Tensor, values: Tensor) -> Sight:
        """See `Step`."""
        straight = torch.arange(self.side, device=happens.device).expand(len(happens), -1)
        turned = torch.where(happens[:, None], self.side - 1 - straight, straight)
        return self._along(sight, straight, turned)

    @abstractmethod
    def _along(self, sight: Sight, straight: Tensor, turned: Tensor) -> Sight:
        """Rows and columns, one of them turned round where a picture is mirrored."""


class HorizontalFlip(Mirror):
    """Left to right."""

    code: ClassVar[int] = 1

    def _along(self, sight: Sight, straight: Tensor, turned: Tensor) -> Sight:
        return sight.along(straight, turned)

    def placed(self, places: np.ndarray, values: np.ndarray) -> np.ndarray:
        """See `Step`."""
        moved: np.ndarray = np.array([self.side, 0]) + places * np.array([-1, 1])
        return moved


class VerticalFlip(Mirror):
    """Top to bottom."""

    code: ClassVar[int] = 0

    def _along(self, sight: Sight, straight: Tensor, turned: Tensor) -> Sight:
        return sight.along(turned, straight)

    def placed(self, places: np.ndarray, values: np.ndarray) -> np.ndarray:
        """See `Step`."""
        moved: np.ndarray = np.array([0, self.side]) + places * np.array([1, -1])
        return moved
