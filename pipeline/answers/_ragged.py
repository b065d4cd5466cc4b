"""Rows of which every image has a number of its own, kept as one array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Self

import numpy as np

from pipeline.runs import gathered


class Ragged:
    """The rows of N images, one image after another."""

    def __init__(self, rows: np.ndarray, starts: np.ndarray) -> None:
        """Take what is already flat.

        Args:
            rows: float64 [n, C].
            starts: where those of each image begin, and where the last ones end: int64 [N + 1].
        """
        self.rows = rows
        self.starts = starts

    @classmethod
    def of(cls, parts: Sequence[np.ndarray] | Self, columns: int) -> Self:
        """From an array [rows, columns] of each image.

        Raises:
            ValueError: one of them has another number of columns.
        """
        if isinstance(parts, cls):
            return parts
        arrays = [np.asarray(part, np.float64) for part in parts]
        for position, array in enumerate(arrays):
            if array.size and (array.ndim != 2 or array.shape[1] != columns):
                raise ValueError(f"image {position}: rows of {columns} numbers are needed, not {array.shape}")
        flat = np.concatenate([np.zeros((0, columns)), *(array.reshape(-1, columns) for array in arrays)])
        return cls(flat, np.cumsum([0, *map(len, arrays)], dtype=np.int64))

    def __len__(self) -> int:
        """N."""
        return len(self.starts) - 1

    def __getitem__(self, position: int) -> np.ndarray:
        """The rows of one image."""
        return self.rows[self.span(position)]

    def __iter__(self) -> Iterator[np.ndarray]:
        """The rows of one image after another."""
        return (self[position] for position in range(len(self)))

    def span(self, position: int) -> slice:
        """Where the rows of one image lie."""
        position = range(len(self))[position]
        return slice(int(self.starts[position]), int(self.starts[position + 1]))

    @cached_property
    def images(self) -> np.ndarray:
        """The position of the image of each row, int64 [n]."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def at(self, positions: Sequence[int] | np.ndarray) -> Self:
        """Those of some of the images, in this order."""
        rows, starts = self.places(positions)
        return type(self)(self.rows[rows], starts)

    def places(self, positions: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which rows those of some of the images are, and where those of each image begin among them."""
        chosen = np.arange(len(self))[np.asarray(positions, np.int64)]
        return gathered(self.starts, chosen)
