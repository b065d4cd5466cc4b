"""Training pictures that are put together from four: a mosaic shows more objects, smaller, and in other surroundings.

Four windows of four pictures meet in a point that is drawn anew each time. Each picture is shown at its own scale, from
the smallest at which it fills its corner up to full size. Like all that varies, a mosaic is a function of (run seed,
epoch, sample id) alone.

Source: Bochkovskiy, Wang, Liao. YOLOv4: Optimal Speed and Accuracy of Object Detection, 2020, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.boxes import VISIBLE, area, clip
from pipeline.contracts import Target
from pipeline.masks import CROWD, VOID

COUNT = 4
"""Pictures of a mosaic."""
MIDDLE = (0.25, 0.75)
"""Where the four may meet, as shares of the side."""
PADDING = -1.0
"""Class of rows that hold no object: see `packed.PADDING`."""


class Corner(NamedTuple):
    """A rectangle of a mosaic, and the window of a picture that it shows."""

    place: tuple[int, int, int, int]
    """x1, y1, x2, y2 in the mosaic, whole pixels."""
    window: tuple[float, float, float, float]
    """Likewise in the picture, of the same proportions."""

    @property
    def scale(self) -> float:
        """Pixels of the mosaic per pixel of the picture, at most 1."""
        return (self.place[2] - self.place[0]) / (self.window[2] - self.window[0])

    def seen(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows and the columns of a picture of that side whose pixels are nearest to those that are shown."""
        x1, y1, x2, y2 = self.place
        down = self.window[1] + (np.arange(y2 - y1) + 0.5) / self.scale
        right = self.window[0] + (np.arange(x2 - x1) + 0.5) / self.scale
        return np.clip(down.astype(np.int64), 0, side - 1), np.clip(right.astype(np.int64), 0, side - 1)


def rows(count: int, share: float, learns: Target) -> int:
    """How many objects a training picture may hold, if a picture as it is holds `count`."""
    return COUNT * count if share and learns is Target.OBJECTS else count


class Mosaics:
    """Training pictures as they are, and, a share of them, as mosaics of them and three others."""

    def __init__(self, pictures: np.ndarray, targets: np.ndarray, learns: Target, share: float) -> None:
        """Of pictures uint8 [V, P, P, C], V targets, and the share of them that are mosaics."""
        self._pictures, self._targets, self._learns, self._share = pictures, targets, learns, share

    def seen(self, position: int, seed: int | None) -> tuple[np.ndarray, np.ndarray]:
        """A picture, uint8 [P, P, C], and its target, with as many rows as `rows` says.

        Args:
            position: of the picture, or of the first of its mosaic.
            seed: decides alone; None: no mosaic.
        """
        if not self._share:
            return self._pictures[position], self._targets[position]
        random = np.random.Generator(np.random.PCG64(seed or 0))
        if seed is None or random.random() >= self._share:
            return self._pictures[position], self._padded(self._targets[position])
        chosen = [position, *random.integers(len(self._pictures), size=COUNT - 1).tolist()]
        corners = drawn(self._pictures.shape[1], random)
        pictures, targets = ([given[one] for one in chosen] for given in (self._pictures, self._targets))
        return painted(pictures, corners), JOINED[self._learns](targets, corners)

    def _padded(self, target: np.ndarray) -> np.ndarray:
        if self._learns is not Target.OBJECTS:
            return target
        return _table([target], rows(len(target), self._share, self._learns))


def drawn(side: int, random: np.random.Generator) -> list[Corner]:
    """Four corners of a mosaic of P = `side`, which fill it."""
    x, y = (round(side * share) for share in random.uniform(*MIDDLE, size=2))
    corners = []
    for x1, y1, x2, y2 in ((0, 0, x, y), (x, 0, side, y), (0, y, x, side), (x, y, side, side)):
        width, height = x2 - x1, y2 - y1
        scale = random.uniform(max(width, height) / side, 1)
        wide, high = width / scale, height / scale
        left, top = (random.uniform(0, max(0.0, side - length)) for length in (wide, high))
        # A rounding error beyond the picture would be refused by Pillow.
        corners.append(Corner((x1, y1, x2, y2), (left, top, min(left + wide, side), min(top + high, side))))
    return corners


def painted(pictures: Sequence[np.ndarray], corners: Sequence[Corner]) -> np.ndarray:
    """The mosaic of four pictures uint8 [P, P, C]."""
    mosaic = np.empty_like(pictures[0])
    for picture, corner in zip(pictures, corners, strict=True):
        x1, y1, x2, y2 = corner.place
        image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
        shown = image.resize((x2 - x1, y2 - y1), Image.Resampling.BILINEAR, box=corner.window)
        mosaic[y1:y2, x1:x2] = np.asarray(shown).reshape(y2 - y1, x2 - x1, -1)
    return mosaic


def objects(targets: Sequence[np.ndarray], corners: Sequence[Corner]) -> np.ndarray:
    """Four times float32 [M, 6] to [4 M, 6]; an object of which too little is seen is a crowd, as in `packed`."""
    found = []
    for target, corner in zip(targets, corners, strict=True):
        moved = target[target[:, 4] >= 0].astype(np.float64)
        x1, y1, x2, y2 = corner.place
        boxes = (moved[:, :4] - np.tile(corner.window[:2], 2)) * corner.scale
        whole = area(boxes)
        boxes = clip(boxes, x2 - x1, y2 - y1)
        left = area(boxes)
        moved[left < VISIBLE * whole, 5] = 1
        moved[:, :4] = boxes + np.tile([x1, y1], 2)
        found.append(moved[left > 0])
    return _table(found, COUNT * len(targets[0]))


def mask(targets: Sequence[np.ndarray], corners: Sequence[Corner]) -> np.ndarray:
    """Four times uint8 [P, P] to the same."""
    mosaic = np.empty_like(targets[0])
    for target, corner in zip(targets, corners, strict=True):
        x1, y1, x2, y2 = corner.place
        down, right = corner.seen(len(target))
        mosaic[y1:y2, x1:x2] = target[down[:, None], right[None, :]]
    return mosaic


def instances(targets: Sequence[np.ndarray], corners: Sequence[Corner]) -> np.ndarray:
    """Four times uint8 [P, P, 3] to the same, the objects numbered anew so that no two share a number.

    One of which too little is seen is a crowd.
    """
    mosaic = np.full_like(targets[0], VOID)
    count = 0
    for target, corner in zip(targets, corners, strict=True):
        x1, y1, x2, y2 = corner.place
        down, right = corner.seen(len(target))
        shown = target[down[:, None], right[None, :]]
        there = shown[:, :, 0] != VOID
        numbers, which, pixels = np.unique(_numbers(shown[there]), return_inverse=True, return_counts=True)
        whole = np.bincount(_numbers(target[target[:, :, 0] != VOID]), minlength=int(numbers.max(initial=0)) + 1)
        cut_off = pixels < VISIBLE * whole[numbers] * corner.scale**2
        anew = np.arange(count, count + len(numbers))
        of_class = np.where(cut_off[which], CROWD, shown[there][:, 0])
        corner_of = mosaic[y1:y2, x1:x2]
        corner_of[there] = np.stack([of_class, anew[which] % 256, anew[which] // 256], axis=1)
        count += len(numbers)
    return mosaic


JOINED: dict[Target, Callable[[Sequence[np.ndarray], Sequence[Corner]], np.ndarray]] = {
    Target.OBJECTS: objects,
    Target.INSTANCES: instances,
    Target.MASK: mask,
}
"""What is known of a mosaic, by what is known of four pictures, for each kind of it that can be put together."""


def _numbers(pixels: np.ndarray) -> np.ndarray:
    """Of pixels uint8 [n, 3] the number of the object of each: int64 [n]."""
    numbers: np.ndarray = pixels[:, 1].astype(np.int64) + 256 * pixels[:, 2].astype(np.int64)
    return numbers


def _table(found: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Rows, and after them padding up to `count`: float32 [count, 6]."""
    table = np.full((count, 6), PADDING, np.float32)
    every = np.concatenate(found)
    table[: len(every)] = every
    return table
