"""Rectangles of pictures covered, each in one colour, so that no single part decides.

Sources: DeVries, Taylor. Improved Regularization of Convolutional Neural Networks with Cutout, 2017 (`CoarseDropout`);
Zhong, Zheng, Kang, Li, Yang. Random Erasing Data Augmentation, 2017 (`Erasing`).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pipeline.variations.draws import between, whole
from pipeline.variations.sight import Sight
from pipeline.variations.step import Drawn, Given, Spec, Step, agrees

COLOURS = 256


@dataclass(frozen=True)
class Holes(Step):
    """The values are x1, y1, x2, y2 and C levels of each rectangle, int64 [B, n, 4 + C]; an empty one is none."""

    side: int
    channels: int
    share: float
    """Of the pictures."""
    fill: float | None
    """The grey of all; None: of each another colour."""

    def coloured(self, rectangles: np.ndarray, random: np.ndarray) -> np.ndarray:
        """Rectangles int64 [B, n, 4] with their colours, from numbers [B, n * C]."""
        count, most = rectangles.shape[:2]
        if self.fill is None:
            colours = whole(random, COLOURS).reshape(count, most, self.channels)
        else:
            colours = np.full((count, most, self.channels), int(self.fill))
        return np.concatenate([rectangles, colours], axis=2)

    @abstractmethod
    def drawn(self, random: np.ndarray) -> Drawn:
        """See `Step`."""

    def on_host(self, pixels: np.ndarray, how: np.ndarray, room: np.ndarray) -> np.ndarray:
        """See `Step`."""
        np.copyto(room, pixels)
        for x1, y1, x2, y2, *colour in how.tolist():
            room[y1:y2, x1:x2] = colour
        return room

    def on_device(self, sight: Sight, happens: Tensor, values: Tensor) -> Sight:
        """See `Step`."""
        pictures = sight.painted()
        places = torch.arange(self.side, device=values.device)
        for hole in values.unbind(1):
            x1, y1, x2, y2 = hole[:, :4, None].unbind(1)
            rows, columns = (places >= y1) & (places < y2), (places >= x1) & (places < x2)
            covered = (rows & happens[:, None])[:, :, None] & columns[:, None, :]
            colour = hole[:, None, None, 4:].to(torch.uint8)
            pictures = torch.where(covered[..., None], colour, pictures)
        return Sight.all_of(pictures)


@dataclass(frozen=True)
class CoarseDropout(Holes):
    """A few rectangles anywhere in the picture."""

    count: tuple[int, int]
    heights: tuple[float, float]
    """Shares of the side, or pixels from 1 up."""
    widths: tuple[float, float]

    @classmethod
    def read(cls, spec: Spec, given: Given) -> Self | None:
        """From the serialised form; None: another way of it than is known here."""
        if given.located or not _known(spec):
            return None
        ranges = (tuple(spec[name]) for name in ("num_holes_range", "hole_height_range", "hole_width_range"))
        return cls(given.side, given.channels, spec["p"], _fill(spec), *ranges)

    @property
    def takes(self) -> int:
        """Whether, how many, and of each its size, place and colour."""
        return 2 + self.count[1] * (4 + self.channels)

    def drawn(self, random: np.ndarray) -> Drawn:
        """See `Step`."""
        least, most = self.count
        heights, widths, tops, lefts = random[:, 2 : 2 + 4 * most].reshape(-1, 4, most).transpose(1, 0, 2)
        if self.heights[1] >= 1:
            high, wide = (
                low + whole(number, min(end, self.side) - low + 1)
                for number, (low, end) in ((heights, map(int, self.heights)), (widths, map(int, self.widths)))
            )
        else:
            high, wide = (
                (self.side * between(number, *ends)).astype(np.int64)
                for number, ends in ((heights, self.heights), (widths, self.widths))
            )
        y, x = whole(tops, self.side - high + 1), whole(lefts, self.side - wide + 1)
        count = least + whole(random[:, 1], most - least + 1)
        rectangles = np.stack([x, y, x + wide, y + high], axis=2) * (np.arange(most) < count[:, None])[:, :, None]
        return Drawn(random[:, 0] < self.share, self.coloured(rectangles, random[:, 2 + 4 * most :]))


@dataclass(frozen=True)
class Erasing(Holes):
    """One rectangle of any size and proportions."""

    scale: tuple[float, float]
    """Smallest and largest share of the area."""
    ratio: tuple[float, float]
    """Smallest and largest width by height."""

    @classmethod
    def read(cls, spec: Spec, given: Given) -> Self | None:
        """From the serialised form; None: another way of it than is known here."""
        if given.located or not _known(spec):
            return None
        return cls(given.side, given.channels, spec["p"], _fill(spec), tuple(spec["scale"]), tuple(spec["ratio"]))

    @property
    def takes(self) -> int:
        """Whether, area, proportions, place and colour."""
        return 5 + self.channels

    def drawn(self, random: np.ndarray) -> Drawn:
        """See `Step`."""
        whole_area, (narrowest, widest) = self.side**2, self.ratio
        least, most = self.scale[0] * whole_area, min(self.scale[1], narrowest, 1 / widest) * whole_area
        areas = between(random[:, 1], least, max(least, most))
        low, high = np.maximum(narrowest, areas / whole_area), np.minimum(widest, whole_area / areas)
        ratios = low + (high - low) * random[:, 2]
        high_and_wide = np.rint(np.sqrt(np.stack([areas / ratios, areas * ratios]))).astype(np.int64)
        tall, wide = high_and_wide
        y, x = whole(random[:, 3], self.side - tall + 1), whole(random[:, 4], self.side - wide + 1)
        rectangles = np.stack([x, y, x + wide, y + tall], axis=1)[:, None]
        happens = (random[:, 0] < self.share) & (most >= least) & (low <= high)
        return Drawn(happens, self.coloured(rectangles, random[:, 5:]))


def _known(spec: Spec) -> bool:
    constant = isinstance(spec["fill"], int | float)
    return agrees(spec, fill_mask=None) and (constant or spec["fill"] == "random_uniform")


def _fill(spec: Spec) -> float | None:
    return None if spec["fill"] == "random_uniform" else float(spec["fill"])
