"""Pictures on a device on the way through a plan: what moves along rows and columns waits and is done in one pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

BITS = 11
"""OpenCV resizes bytes by whole-number weights of so many bits; the same are taken here, so that the pixels are."""


class Blend(NamedTuple):
    """Rows (or columns) of the source that others are blended with."""

    others: Tensor
    """int64 [B, n]."""
    first: Tensor
    """Weights of those that are blended, int32 [B, n]."""
    second: Tensor
    """Weights of the others; both add up to 2 ** BITS."""


@dataclass(frozen=True)
class Axis:
    """Which rows (or columns) of the source those to come show: one each, or a blend of two."""

    places: Tensor
    """int64 [B, n]."""
    blend: Blend | None = None

    def at(self, chosen: Tensor) -> Axis:
        """Some of them, by their places here, int64 [B, m]."""
        blend = Blend(*(each.gather(1, chosen) for each in self.blend)) if self.blend else None
        return Axis(self.places.gather(1, chosen), blend)

    def of(self, source: Tensor) -> Axis:
        """The same, by places int64 [B, n] of a source that was there before."""
        blend = self.blend._replace(others=source.gather(1, self.blend.others)) if self.blend else None
        return Axis(source.gather(1, self.places), blend)


@dataclass(frozen=True)
class Sight:
    """B pictures to come, each of rows and columns of one of N pictures that are there."""

    pictures: Tensor
    """uint8 [N, P, P, C]."""
    which: Tensor
    """The picture that each is of, int64 [B]."""
    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, pictures: Tensor, which: Tensor) -> Sight:
        """Pictures as they are."""
        count, side = len(which), torch.arange(pictures.shape[1], device=pictures.device)
        every = side.expand(count, -1)
        return cls(pictures, which, Axis(every), Axis(every))

    @classmethod
    def all_of(cls, pictures: Tensor) -> Sight:
        """Every picture as it is."""
        return cls.of(pictures, torch.arange(len(pictures), device=pictures.device))

    def along(self, rows: Tensor, columns: Tensor) -> Sight:
        """The same, but only these rows and columns of them, int64 [B, n] each."""
        return replace(self, rows=self.rows.at(rows), columns=self.columns.at(columns))

    def blended(self, rows: Axis, columns: Axis) -> Sight:
        """The same, but these rows and columns of them, blends as they are."""
        plain = Sight.all_of(self.painted()) if self.rows.blend else self
        return replace(plain, rows=rows.of(plain.rows.places), columns=columns.of(plain.columns.places))

    def painted(self) -> Tensor:
        """The pictures themselves, uint8 [B, n, n, C]."""
        down, across = self.rows.blend, self.columns.blend
        if down is None or across is None:
            return self._at(self.rows.places, self.columns.places)
        upper, lower = (self._blended_rows(rows, across) >> 4 for rows in (self.rows.places, down.others))
        first, second = (weights[:, :, None, None] for weights in (down.first, down.second))
        # The sum that OpenCV forms in registers of 16 bits, rounding at the same places.
        return ((((first * upper) >> 16) + ((second * lower) >> 16) + 2) >> 2).to(torch.uint8)

    def _blended_rows(self, rows: Tensor, across: Blend) -> Tensor:
        """Rows of the source, each blended along itself: int32 [B, n, n, C]."""
        first, second = (weights[:, None, :, None] for weights in (across.first, across.second))
        return self._at(rows, self.columns.places) * first + self._at(rows, across.others) * second

    def _at(self, rows: Tensor, columns: Tensor) -> Tensor:
        return self.pictures[self.which[:, None, None], rows[:, :, None], columns[:, None, :]]
