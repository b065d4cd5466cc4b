"""The pixels of many objects as COCO's runs: what they have in common is found without a mask of any of them.

Runs are lengths, of background and object in turn, down one column after the other; they fill their picture. The pixel
in column x and row y of H rows is at place x * H + y.

Source: Lin et al. Microsoft COCO: Common Objects in Context, 2014; pycocotools, common/maskApi.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from pipeline.annotations import Runs
from pipeline.masks import fill

PORTION = 4_000_000
"""Runs looked at together: some hundred MB."""
INSIDE = 0.5
"""A pixel is of an object if that is more probable."""


class Insides:
    """The pixels of n objects, each in a picture of its own size."""

    def __init__(self, lengths: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> None:
        """Take what is already flat.

        Args:
            lengths: of all runs, object after object, int32 [r].
            starts: where those of each object begin, and where the last ones end: int64 [n + 1].
            sizes: width and height of the picture of each object, int64 [n, 2].

        Raises:
            ValueError: those of an object do not fill its picture.
        """
        self.lengths = np.asarray(lengths, np.int32)
        self.starts = np.asarray(starts, np.int64)
        self.sizes = np.asarray(sizes, np.int64).reshape(-1, 2)
        totals = np.diff(np.append(0, np.cumsum(self.lengths, dtype=np.int64))[self.starts])
        wrong = np.flatnonzero((totals != self.sizes.prod(axis=1)) | (np.diff(self.starts) < 1))
        if len(wrong) or (self.lengths < 0).any():
            first = wrong[0] if len(wrong) else 0
            width, height = self.sizes[first].tolist()
            raise ValueError(f"expected runs that fill {width} x {height} pixels, found {totals[first]:,}")

    @classmethod
    def of(cls, objects: Sequence[Sequence[int] | np.ndarray], sizes: np.ndarray) -> Insides:
        """From the runs of each object, and width and height of its picture, int64 [n, 2]."""
        flat = [np.asarray(one, np.int32) for one in objects]
        lengths = np.concatenate([np.zeros(0, np.int32), *flat])
        return cls(lengths, np.cumsum([0, *map(len, flat)], dtype=np.int64), sizes)

    def __len__(self) -> int:
        """n."""
        return len(self.starts) - 1

    def __getitem__(self, place: int) -> Runs:
        """Those of one object."""
        width, height = self.sizes[place].tolist()
        return Runs(height, width, tuple(self.lengths[self.starts[place] : self.starts[place + 1]].tolist()))

    def at(self, places: np.ndarray) -> Insides:
        """Those of some of the objects, in this order."""
        rows, starts = gathered(self.starts, places)
        return Insides(self.lengths[rows], starts, self.sizes[places])

    @cached_property
    def areas(self) -> np.ndarray:
        """Pixels of each object, float64 [n]."""
        begins, ends, owners = self._spans
        areas: np.ndarray = np.bincount(owners, weights=ends - begins, minlength=len(self))
        return areas

    @cached_property
    def boxes(self) -> np.ndarray:
        """The smallest box around the pixels of each object, float64 [n, 4]; all 0 where there are none."""
        begins, ends, owners = self._spans
        boxes = np.zeros((len(self), 4))
        if not len(owners):
            return boxes
        heights = self.sizes[owners, 1]
        whole = begins // heights != (ends - 1) // heights  # the run goes over into the next column
        tops, bottoms = np.where(whole, 0, begins % heights), np.where(whole, heights, (ends - 1) % heights + 1)
        first = np.flatnonzero(np.diff(owners, prepend=-1))
        last = np.append(first[1:], len(owners)) - 1
        boxes[owners[first]] = np.column_stack(
            [
                begins[first] // heights[first],
                np.minimum.reduceat(tops, first),
                (ends[last] - 1) // heights[last] + 1,
                np.maximum.reduceat(bottoms, first),
            ]
        )
        return boxes

    def common(self, mine: np.ndarray, other: Insides, theirs: np.ndarray) -> np.ndarray:
        """How many pixels objects have in common, pair by pair, float64 [p].

        Args:
            mine: places of objects here, int64 [p].
            other: objects in pictures of the same sizes.
            theirs: places among those, int64 [p].
        """
        counts = np.diff(self._first)[mine]
        ends = np.cumsum(counts)
        found = np.zeros(len(mine))
        begin = 0
        while begin < len(mine):
            before = int(ends[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, before + PORTION, side="right")))
            found[begin:end] = self._common(mine[begin:end], other, theirs[begin:end])
            begin = end
        return found

    def iou(
        self, mine: np.ndarray, other: Insides, theirs: np.ndarray, crowd: np.ndarray | None = None, least: float = 0
    ) -> np.ndarray:
        """Intersection over union, pair by pair, as in pycocotools' `rleIou`.

        Args:
            mine: places of objects here, int64 [p].
            other: objects in pictures of the same sizes.
            theirs: places among those, int64 [p].
            crowd: bool [p]; where True, the first may be any part of the second: intersection over the first.
            least: pairs whose boxes say that they cannot reach it are not looked at, and get 0.

        Returns:
            float64 [p], 0 where there is nothing in common.
        """
        own, their = self.areas[mine], other.areas[theirs]
        crowd = np.zeros(len(mine), bool) if crowd is None else crowd
        corners, others = self.boxes[mine], other.boxes[theirs]
        sides = np.minimum(corners[:, 2:], others[:, 2:]) - np.maximum(corners[:, :2], others[:, :2])
        most = np.minimum(np.prod(np.maximum(sides, 0), axis=1), np.minimum(own, their))
        hopeful = np.flatnonzero((most > 0) & (_share(most, own, their, crowd) >= least))
        shares = np.zeros(len(mine))
        both = self.common(mine[hopeful], other, theirs[hopeful])
        shares[hopeful] = _share(both, own[hopeful], their[hopeful], crowd[hopeful])
        return shares

    def painted(self, places: np.ndarray) -> np.ndarray:
        """Some objects of one picture over each other, the last uppermost.

        Args:
            places: of the objects, int64 [p].

        Returns:
            Which of them each pixel is of, from 1, and 0 where it is of none, down the columns: int64 [W * H]; nothing
            if there are no objects.
        """
        painted = np.zeros(int(self.sizes[places[0]].prod()) if len(places) else 0, np.int64)
        begins, ends, _ = self._spans
        for number, place in enumerate(places.tolist(), start=1):
            span = slice(self._first[place], self._first[place + 1])
            for begin, end in zip(begins[span].tolist(), ends[span].tolist(), strict=True):
                painted[begin:end] = number
        return painted

    @cached_property
    def _spans(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First place and place after the last of each run of pixels, and the object that it is of: int64 [s] each."""
        owners = np.repeat(np.arange(len(self)), np.diff(self.starts))
        ends = np.cumsum(self.lengths, dtype=np.int64)
        ends -= np.append(0, ends)[self.starts[:-1]][owners]
        odd = (np.arange(len(owners)) - self.starts[owners]) % 2 == 1
        chosen = odd & (self.lengths > 0)
        return ends[chosen] - self.lengths[chosen], ends[chosen], owners[chosen]

    @cached_property
    def _first(self) -> np.ndarray:
        """Where the runs of pixels of each object begin among `_spans`, int64 [n + 1]."""
        first: np.ndarray = np.searchsorted(self._spans[2], np.arange(len(self) + 1))
        return first

    def _common(self, mine: np.ndarray, other: Insides, theirs: np.ndarray) -> np.ndarray:
        rows, starts = gathered(self._first, mine)
        begins, ends, _ = self._spans
        pairs = np.repeat(np.arange(len(mine)), np.diff(starts))
        # All objects lie one after the other on one line, so that one search finds every end of every run.
        step = 1 + int(max(self.sizes.prod(axis=1).max(initial=0), other.sizes.prod(axis=1).max(initial=0)))
        shift = theirs[pairs] * step
        covered = other._covered(ends[rows] + shift, step) - other._covered(begins[rows] + shift, step)
        return np.bincount(pairs, weights=covered, minlength=len(mine))

    def _covered(self, places: np.ndarray, step: int) -> np.ndarray:
        """How many pixels of objects lie before places on the line, int64."""
        begins, ends, owners = self._spans
        if not len(owners):
            return np.zeros(len(places), np.int64)
        starts, lengths = begins + owners * step, ends - begins
        before = np.cumsum(lengths) - lengths
        place = np.searchsorted(starts, places, side="right") - 1
        known = np.maximum(place, 0)
        covered: np.ndarray = before[known] + np.clip(places - starts[known], 0, lengths[known])
        return covered


def gathered(starts: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of some of the things whose rows lie one after another, and where each of these begins among them.

    Args:
        starts: where the rows of each thing begin, and where the last ones end: int64 [n + 1].
        chosen: places of things, int64 [c].
    """
    lengths = starts[chosen + 1] - starts[chosen]
    firsts = np.append(0, np.cumsum(lengths))
    return np.repeat(starts[chosen] - firsts[:-1], lengths) + np.arange(firsts[-1]), firsts


def tidy(lengths: Sequence[int], width: int, height: int) -> np.ndarray:
    """Runs of one object without any that is empty but the first: equal pixels are equal runs, int32 [r].

    Raises:
        ValueError: they do not fill the picture.
    """
    begins, ends, _ = Insides.of([lengths], np.array([[width, height]]))._spans
    apart = ends[:-1] != begins[1:]
    edges = np.column_stack([begins[np.append(True, apart)[: len(begins)]], ends[np.append(apart, True)[: len(ends)]]])
    return _closed(edges.ravel(), width * height)


def filled(polygons: Sequence[Sequence[float]], width: int, height: int) -> np.ndarray:
    """The pixels that `masks.fill` finds in polygons, as runs: int32 [r]."""
    corners = np.concatenate([np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in polygons])
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, [width, height]).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, [width, height]).astype(int).tolist()
    return placed(fill(polygons, width, height)[top:bottom, left:right], left, top, width, height)


def placed(inside: np.ndarray, left: int, top: int, width: int, height: int) -> np.ndarray:
    """A small mask within a picture as runs, without room for a mask of that size: int32 [r].

    Args:
        inside: bool [h, w].
        left: the column of the picture where it begins.
        top: the row.
        width: of the picture.
        height: likewise.
    """
    edges = np.diff(np.pad(inside.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)  # along each column
    columns, rows = np.nonzero(edges)  # in order; of each column, where a run begins, and where it ends, in turn
    places = (columns + left) * height + rows + top
    joint = np.flatnonzero(places[1:-1:2] == places[2::2])  # a column filled to its end, and the next from its start
    places = np.delete(places, np.concatenate([2 * joint + 1, 2 * joint + 2]))
    return _closed(places, width * height)


def pasted(shares: np.ndarray, box: Sequence[float], width: int, height: int) -> np.ndarray:
    """The small mask of an object over its box in a picture, as runs: int32 [r].

    Of each pixel the value at its centre counts, bilinear between the centres of the cells, and 0 beyond them.

    Source: He, Gkioxari, Dollar, Girshick. Mask R-CNN, 2017, section 3.1; Detectron2, `paste_masks_in_image`.

    Args:
        shares: how probable each cell is to be inside, float [m, m].
        box: x1, y1, x2, y2 over which they lie; it may reach beyond the picture.
        width: of the picture.
        height: likewise.
    """
    side = len(shares)
    padded = np.zeros((side + 2, side + 2))
    padded[1:-1, 1:-1] = shares
    left, columns, share_x = _between(box[0], box[2], side, width)
    top, rows, share_y = _between(box[1], box[3], side, height)
    tall = padded[rows] * (1 - share_y)[:, None] + padded[rows + 1] * share_y[:, None]
    values = tall[:, columns] * (1 - share_x) + tall[:, columns + 1] * share_x
    return placed(values > INSIDE, left, top, width, height)


def ellipse(box: Sequence[float], width: int, height: int) -> np.ndarray:
    """The pixels of a picture whose centres lie in the ellipse that fills a box, as runs: int32 [r]."""
    left, top = (max(0, int(np.floor(value))) for value in box[:2])
    right, bottom = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
    radii = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    across = (np.arange(left, right) + 0.5 - (box[0] + box[2]) / 2) / radii[0]
    down = (np.arange(top, bottom) + 0.5 - (box[1] + box[3]) / 2) / radii[1]
    return placed(across**2 + (down**2)[:, None] <= 1, left, top, width, height)


def _between(start: float, end: float, side: int, length: int) -> tuple[int, np.ndarray, np.ndarray]:
    """The first pixel of a picture whose centre is in the box, and of each such pixel the padded cell before its
    centre, and the share of the next one."""
    first, last = max(0, int(np.ceil(start - 0.5))), min(length, int(np.ceil(end - 0.5)))
    places = (np.arange(first, last) + 0.5 - start) / (end - start) * side - 0.5
    low = np.clip(np.floor(places), -1, side - 1)
    return first, low.astype(np.int64) + 1, places - low


def _closed(edges: np.ndarray, pixels: int) -> np.ndarray:
    """Runs between places where they begin and end."""
    lengths = np.diff(edges, prepend=0, append=pixels).astype(np.int32)
    return lengths if lengths[-1] or len(lengths) == 1 else lengths[:-1]


def _share(both: np.ndarray, own: np.ndarray, their: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    whole = np.where(crowd, own, own + their - both)
    shares: np.ndarray = np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)
    return shares
