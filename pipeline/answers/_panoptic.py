"""How well objects divide images: each pixel is of one object at most, true or said.

Where said objects overlap the surest has the pixels, where true ones do the smallest, as it is learnt. An object whose
pixels are all taken is none. A said object is right if it has an IoU of more than 0.5 with a true one of its class:
there is at most one. What is mostly part of a crowd of its class is neither right nor wrong.

Source: Kirillov, He, Girshick, Rother, Dollar. Panoptic Segmentation, 2019, section 4; the rule of group regions is in
4.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipeline.answers._ragged import Ragged
from pipeline.answers._ratio import ratio
from pipeline.runs import Insides

MATCH = 0.5
"""IoU above which two segments are one."""


class Panoptic(NamedTuple):
    """Counts of each image and class, float64 [N, K] each, or of several images [R, K]."""

    shared: np.ndarray
    """The sum of the IoUs of right objects."""
    right: np.ndarray
    wrong: np.ndarray
    missed: np.ndarray

    def summed(self, weights: np.ndarray) -> Panoptic:
        """Over the images, under weightings of them float64 [R, N]."""
        return Panoptic(*(np.einsum("rn,nk->rk", weights, part) for part in self))

    @property
    def segmentation(self) -> np.ndarray:
        """SQ: the mean IoU of right objects, 0 where none is right; nan where nothing is there and nothing said."""
        return np.where(self._any, ratio(self.shared, self.right, 0), np.nan)

    @property
    def recognition(self) -> np.ndarray:
        """RQ: the F1 of objects; nan likewise."""
        return np.where(self._any, ratio(self.right, self._all, 0), np.nan)

    @property
    def quality(self) -> np.ndarray:
        """PQ, the product of both; nan likewise."""
        return np.where(self._any, ratio(self.shared, self._all, 0), np.nan)

    @property
    def _all(self) -> np.ndarray:
        every: np.ndarray = self.right + (self.wrong + self.missed) / 2
        return every

    @property
    def _any(self) -> np.ndarray:
        return self._all > 0


def panoptic(truth: tuple[Ragged, Insides], found: tuple[Ragged, Insides], shown: np.ndarray, classes: int) -> Panoptic:
    """Match the objects of every image.

    Args:
        truth: rows x1, y1, x2, y2, class id, crowd, and their pixels.
        found: rows x1, y1, x2, y2, score, class id, those of an image by falling score, and their pixels.
        shown: which of the latter are said, bool [D].
        classes: K.
    """
    counts = np.zeros((4, len(truth[0]), classes))
    for image in range(len(truth[0])):
        things, said = (np.arange(*rows.span(image).indices(len(rows.rows))) for rows in (truth[0], found[0]))
        said = said[shown[said]]
        rows = truth[0].rows[things]
        # Crowds lie below all others, large ones below small ones, the surest above all.
        below = np.lexsort((things, -truth[1].areas[things], rows[:, 5] == 0))
        _match(
            (rows[below], truth[1], things[below]), (found[0].rows[said[::-1]], found[1], said[::-1]), counts[:, image]
        )
    return Panoptic(*counts)


_Side = tuple[np.ndarray, Insides, np.ndarray]
"""Rows of the objects of an image, from the lowest to the uppermost, all pixels, and the places of these among them."""


def _match(truth: _Side, found: _Side, counts: np.ndarray) -> None:
    """Add what is right, wrong and missed in an image to float64 [4, K]."""
    painted = [inside.painted(places) for _, inside, places in (truth, found)]
    if not len(painted[0]) and not len(painted[1]):
        return
    length = max(map(len, painted))
    actual, told = (one if len(one) else np.zeros(length, np.int64) for one in painted)
    codes, pixels = _tallied(actual * (len(found[2]) + 1) + told)
    one, other = np.divmod(codes, len(found[2]) + 1)  # 0 is nothing
    areas = [
        np.bincount(side, weights=pixels, minlength=len(places) + 1)
        for side, places in ((one, truth[2]), (other, found[2]))
    ]
    labels = [np.append(-1, rows[:, column]).astype(np.int64) for rows, column in ((truth[0], 4), (found[0], 5))]
    crowd = np.append(False, truth[0][:, 5] != 0)
    alike = (one > 0) & (other > 0) & (labels[0][one] == labels[1][other])
    shares = pixels / np.maximum(areas[0][one] + areas[1][other] - pixels, 1)
    matched = alike & ~crowd[one] & (shares > MATCH)
    in_crowd = alike & crowd[one]
    lost = np.bincount(other[in_crowd], weights=pixels[in_crowd], minlength=len(areas[1])) > MATCH * areas[1]
    true, said = (np.ones(len(one), bool) for one in areas)
    true[one[matched]], said[other[matched]] = False, False
    true &= (areas[0] > 0) & ~crowd
    said &= (areas[1] > 0) & ~lost
    true[0] = said[0] = False
    np.add.at(counts[0], labels[1][other[matched]], shares[matched])
    for row, classes in ((1, labels[1][other[matched]]), (2, labels[1][said]), (3, labels[0][true])):
        np.add.at(counts[row], classes, 1)


def _tallied(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct numbers, and how many there are of each; neighbours are mostly equal, and sorting is slow."""
    starts = np.append(0, np.flatnonzero(codes[1:] != codes[:-1]) + 1)
    distinct, which = np.unique(codes[starts], return_inverse=True)
    return distinct, np.bincount(which, weights=np.diff(starts, append=len(codes)))
