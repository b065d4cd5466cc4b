"""Pictures moved, turned, scaled and sheared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import cv2
import numpy as np
import torch
from torch import Tensor

from pipeline.masks import VOID
from pipeline.variations.draws import between, whole
from pipeline.variations.padding import AROUND
from pipeline.variations.sight import Sight
from pipeline.variations.step import Drawn, Given, Spec, Step, agrees

Range = tuple[float, float]


@dataclass(frozen=True)
class Affine(Step):
    """The values are matrices from places of a picture to places of the new one, float64 [B, 2, 3].

    To them, as to OpenCV, the middle of the first pixel is 0.
    """

    moves: ClassVar[bool] = True

    side: int
    share: float
    """Of the pictures."""
    translate: tuple[Range, Range]
    """Along x and y, in pixels."""
    by_pixels: bool
    """Whether translations are drawn in whole pixels, or rounded down to them."""
    scale: tuple[Range, Range]
    keep_ratio: bool
    rotate: Range
    shear: tuple[Range, Range]
    """In degrees, as turns are."""
    border: int
    fill: float
    channels: int

    @classmethod
    def read(cls, spec: Spec, given: Given) -> Self | None:
        """From the serialised form; None: another way of it than is known here."""
        known = agrees(spec, fit_output=False, balanced_scale=False, interpolation=1, mask_interpolation=0)
        border = spec["border_mode"]
        boxed = agrees(spec, rotate_method="largest_box", border_mode=cv2.BORDER_CONSTANT, fill_mask=VOID)
        if not known or border not in AROUND or not isinstance(spec["fill"], int | float):
            return None
        if given.located and not boxed:
            return None
        by_pixels = spec["translate_percent"] is None
        moves = spec["translate_px"] if by_pixels else spec["translate_percent"]
        unit = 1 if by_pixels else given.side
        ranges = [tuple(unit * end for end in moves[axis]) for axis in "xy"]
        if not all(isinstance(spec[name][axis], list | tuple) for name in ("scale", "shear") for axis in "xy"):
            return None
        return cls(
            side=given.side,
            share=spec["p"],
            translate=(ranges[0], ranges[1]),
            by_pixels=by_pixels,
            scale=(tuple(spec["scale"]["x"]), tuple(spec["scale"]["y"])),
            keep_ratio=spec["keep_ratio"],
            rotate=tuple(spec["rotate"]),
            shear=(tuple(spec["shear"]["x"]), tuple(spec["shear"]["y"])),
            border=border,
            fill=spec["fill"],
            channels=given.channels,
        )

    @property
    def takes(self) -> int:
        """Whether, and seven numbers that say how."""
        return 8

    def drawn(self, random: np.ndarray) -> Drawn:
        """See `Step`."""
        happens, *rest = random.T
        if self.by_pixels:
            moves = [
                low + whole(number, high - low + 1)
                for number, (low, high) in zip(rest[:2], [map(int, ends) for ends in self.translate], strict=True)
            ]
        else:
            moves = [np.trunc(between(number, *ends)) for number, ends in zip(rest[:2], self.translate, strict=True)]
        shears = [-between(number, *ends) for number, ends in zip(rest[2:4], self.shear, strict=True)]
        scales = [between(number, *ends) for number, ends in zip(rest[4:6], self.scale, strict=True)]
        if self.keep_ratio:
            scales[1] = scales[0]
        return Drawn(happens < self.share, _matrices(moves, shears, scales, between(rest[6], *self.rotate), self.side))

    def on_host(self, pixels: np.ndarray, how: np.ndarray, room: np.ndarray) -> np.ndarray:
        """See `Step`."""
        return self._warped(pixels, how, room, cv2.INTER_LINEAR, self.fill)

    def mask_on_host(self, mask: np.ndarray, how: np.ndarray, room: np.ndarray) -> np.ndarray:
        """See `Step`."""
        return self._warped(mask, how, room, cv2.INTER_NEAREST, VOID)

    def _warped(self, pixels: np.ndarray, how: np.ndarray, room: np.ndarray, way: int, fill: float) -> np.ndarray:
        size, colour = (self.side, self.side), [fill] * 4
        cv2.warpAffine(pixels, how, size, dst=room, flags=way, borderMode=self.border, borderValue=colour)
        return room

    def on_device(self, sight: Sight, happens: Tensor, values: Tensor) -> Sight:
        """See `Step`."""
        pictures = sight.painted()
        x, y = _sources(values, self.side)
        left, top = x.floor(), y.floor()
        right_share, lower_share = ((at - low).float()[..., None] for at, low in ((x, left), (y, top)))
        columns, rows = left.long(), top.long()
        upper = self._blend(self._at(pictures, rows, columns), self._at(pictures, rows, columns + 1), right_share)
        lower = self._blend(
            self._at(pictures, rows + 1, columns), self._at(pictures, rows + 1, columns + 1), right_share
        )
        warped = self._blend(upper, lower, lower_share).round().to(torch.uint8)
        return Sight.all_of(torch.where(happens[:, None, None, None], warped, pictures))

    @staticmethod
    def _blend(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
        return first * (1 - share) + second * share

    def _at(self, pictures: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Pixels of pictures uint8 [B, P, P, C] at places int64 [B, S, S]: float32 [B, S, S, C]."""
        which = torch.arange(len(pictures), device=pictures.device)[:, None, None]
        around = AROUND[self.border]
        pixels = pictures[which, around(rows, self.side), around(columns, self.side)].float()
        if self.border != cv2.BORDER_CONSTANT:
            return pixels
        inside = (rows >= 0) & (rows < self.side) & (columns >= 0) & (columns < self.side)
        return torch.where(inside[..., None], pixels, self.fill)

    def placed(self, places: np.ndarray, values: np.ndarray) -> np.ndarray:
        """See `Step`."""
        moved: np.ndarray = (places - 0.5) @ values[:, :, :2].transpose(0, 2, 1) + values[:, None, :, 2] + 0.5
        return moved


def _matrices(
    moves: list[np.ndarray], shears: list[np.ndarray], scales: list[np.ndarray], turns: np.ndarray, side: int
) -> np.ndarray:
    """Scale, turn, shear and move about the middle, in this order: float64 [B, 2, 3]."""
    angles, tangents = np.deg2rad(turns % 360), [np.tan(np.deg2rad(shear)) for shear in shears]
    cosines, sines, ones = np.cos(angles), np.sin(angles), np.ones(len(turns))
    turned = _stacked([[cosines, sines], [-sines, cosines]])
    sheared = _stacked([[ones, tangents[0]], [tangents[1], ones]])
    linear = sheared @ turned * np.stack(scales, axis=1)[:, None, :]
    middle = np.full(2, side / 2 - 0.5)
    moved = middle + np.stack(moves, axis=1) - linear @ middle
    return np.concatenate([linear, moved[:, :, None]], axis=2)


def _stacked(entries: list[list[np.ndarray]]) -> np.ndarray:
    """Matrices [B, 2, 2] from their entries [B]."""
    return np.stack([np.stack(row, axis=1) for row in entries], axis=1)


def _sources(matrices: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The place x, y in the picture of each pixel of the new one, float64 [B, S, S] each."""
    (a, b, right), (c, d, down) = ((row[:, None, None] for row in matrices[:, axis].T) for axis in (0, 1))
    determinant = a * d - b * c
    places = torch.arange(side, device=matrices.device, dtype=torch.float64)
    x, y = places[None, None, :] - right, places[None, :, None] - down
    return (d * x - b * y) / determinant, (a * y - c * x) / determinant
