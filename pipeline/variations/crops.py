"""A part of each picture: of any size and proportions and resized, of one size at any place, or the middle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import cv2
import numpy as np
import torch
from torch import Tensor

from pipeline.variations.draws import between, whole
from pipeline.variations.sight import BITS, Axis, Blend, Sight
from pipeline.variations.step import Drawn, Given, Spec, Step, agrees, always

TRIES = 10
"""Areas and proportions that are drawn until a part fits into the picture; the whole picture otherwise."""


class Resized(Step):
    """A part of each picture, resized; the values are x1, y1, x2, y2 of it, int64 [B, 4]."""

    moves: ClassVar[bool] = True

    def on_host(self, pixels: np.ndarray, how: np.ndarray, room: np.ndarray) -> np.ndarray:
        """See `Step`."""
        x1, y1, x2, y2 = how.tolist()
        cv2.resize(pixels[y1:y2, x1:x2], (self.side, self.side), dst=room, interpolation=cv2.INTER_LINEAR)
        return room

    def mask_on_host(self, mask: np.ndarray, how: np.ndarray, room: np.ndarray) -> np.ndarray:
        """See `Step`."""
        x1, y1, x2, y2 = how.tolist()
        cv2.resize(mask[y1:y2, x1:x2], (self.side, self.side), dst=room, interpolation=cv2.INTER_NEAREST)
        return room

    def on_device(self, sight: Sight, happens: Tensor, values: Tensor) -> Sight:
        """See `Step`."""
        x1, y1, x2, y2 = values.unbind(1)
        return sight.blended(_blend(y1, y2 - y1, self.side, edges=True), _blend(x1, x2 - x1, self.side, edges=False))

    def placed(self, places: np.ndarray, values: np.ndarray) -> np.ndarray:
        """See `Step`."""
        corners, sizes = values[:, None, :2], values[:, None, 2:] - values[:, None, :2]
        moved: np.ndarray = (places - corners) * (self.side / sizes)
        return moved


@dataclass(frozen=True)
class RandomResizedCrop(Resized):
    """Drawn as Albumentations draws it: an area, proportions, and a place."""

    side: int
    given: int
    """P of the pictures that come in."""
    scale: tuple[float, float]
    """Smallest and largest share of the area."""
    ratio: tuple[float, float]
    """Smallest and largest width by height."""

    @classmethod
    def read(cls, spec: Spec, given: Given) -> Self | None:
        """From the serialised form; None: another way of it than is known here."""
        height, width = spec["size"]
        known = agrees(spec, p=1.0, interpolation=cv2.INTER_LINEAR, mask_interpolation=0, area_for_downscale=None)
        if not known or height != width:
            return None
        return cls(height, given.side, tuple(spec["scale"]), tuple(spec["ratio"]))

    @property
    def takes(self) -> int:
        """Area and proportions of each try, and a place."""
        return 2 * TRIES + 2

    def drawn(self, random: np.ndarray) -> Drawn:
        """See `Step`."""
        areas = between(random[:, :TRIES], *(share * self.given**2 for share in self.scale))
        ratios = np.exp(between(random[:, TRIES:-2], *map(math.log, self.ratio)))
        sizes = np.rint(np.sqrt(np.stack([areas * ratios, areas / ratios], axis=2))).astype(np.int64)
        fits = ((sizes > 0) & (sizes <= self.given)).all(axis=2)
        first = fits.argmax(axis=1)
        size = sizes[np.arange(len(sizes)), first]
        corner = whole(random[:, -2:], self.given - size + 1)
        values = np.concatenate([corner, corner + size], axis=1)
        values[~fits.any(axis=1)] = self._whole
        return always(random, values)

    @property
    def _whole(self) -> tuple[int, int, int, int]:
        """As much of the middle as the proportions allow."""
        smallest, largest = self.ratio
        width = height = self.given
        if smallest > 1:
            height = round(width / smallest)
        elif largest < 1:
            width = round(height * largest)
        x, y = (self.given - width) // 2, (self.given - height) // 2
        return x, y, x + width, y + height


@dataclass(frozen=True)
class Resize(Resized):
    """All of a picture, resized."""

    side: int
    given: int

    @classmethod
    def read(cls, spec: Spec, given: Given) -> Self | None:
        """From the serialised form; None: another way of it than is known here."""
        known = agrees(spec, p=1.0, interpolation=cv2.INTER_LINEAR, mask_interpolation=0, area_for_downscale=None)
        return cls(spec["height"], given.side) if known and spec["height"] == spec["width"] else None

    @property
    def takes(self) -> int:
        """Nothing is drawn."""
        return 0

    def drawn(self, random: np.ndarray) -> Drawn:
        """See `Step`."""
        return always(random, np.tile(np.array([0, 0, self.given, self.given]), (len(random), 1)))


@dataclass(frozen=True)
class Crop(Step):
    """A part of each picture as it is; the values are x and y of its corner, int64 [B, 2]."""

    moves: ClassVar[bool] = True

    side: int
    given: int
    middle: bool
    """The middle, or any place, each as likely."""

    @classmethod
    def read_random(cls, spec: Spec, given: Given) -> Self | None:
        """`RandomCrop` from the serialised form; None: another way of it than is known here."""
        return cls._read(spec, given, middle=False)

    @classmethod
    def read_middle(cls, spec: Spec, given: Given) -> Self | None:
        """`CenterCrop`, likewise."""
        return cls._read(spec, given, middle=True)

    @classmethod
    def _read(cls, spec: Spec, given: Given, middle: bool) -> Self | None:
        known = agrees(spec, p=1.0, pad_if_needed=False) and spec["height"] == spec["width"] <= given.side
        return cls(spec["height"], given.side, middle) if known else None

    @property
    def takes(self) -> int:
        """A place, unless it is the middle."""
        return 0 if self.middle else 2

    def drawn(self, random: np.ndarray) -> Drawn:
        """See `Step`."""
        room = self.given - self.side
        if self.middle:
            return always(random, np.full((len(random), 2), room // 2))
        return always(random, whole(random, room + 1))

    def on_host(self, pixels: np.ndarray, how: np.ndarray, room: np.ndarray) -> np.ndarray:
        """See `Step`."""
        x, y = how.tolist()
        return pixels[y : y + self.side, x : x + self.side]

    def on_device(self, sight: Sight, happens: Tensor, values: Tensor) -> Sight:
        """See `Step`."""
        x, y = (values[:, axis, None] + torch.arange(self.side, device=values.device) for axis in (0, 1))
        return sight.along(y, x)

    def placed(self, places: np.ndarray, values: np.ndarray) -> np.ndarray:
        """See `Step`."""
        moved: np.ndarray = places - values[:, None]
        return moved


def _blend(start: Tensor, length: Tensor, side: int, edges: bool) -> Axis:
    """The rows or columns that `cv2.resize` blends, and by how much: it reads beyond the edges of rows alone.

    Args:
        start: the first of the part of each picture, int64 [B].
        length: of the part, int64 [B].
        side: of what comes out.
        edges: whether one beyond the edge counts as the one at the edge; else the weight is all on the latter. The
            pixels are the same to a rounding error, which is made here too.
    """
    length = length[:, None]
    step = 1 / (side / length.double())
    at = ((torch.arange(side, device=start.device) + 0.5) * step - 0.5).float()
    low = at.floor()
    share = at - low
    low = low.long()
    if not edges:
        share = torch.where((low < 0) | (low >= length - 1), 0, share)
    second = (share * 2**BITS).round().int()
    first = ((1 - share) * 2**BITS).round().int()
    last = length - 1
    ends = [torch.minimum(row.clamp(min=0), last) + start[:, None] for row in (low, low + 1)]
    return Axis(ends[0], Blend(ends[1], first, second))
