"""Which pictures are the same picture: encoded anew, resized, or stored twice under two names.

Of each picture a look is kept, 16 x 16 grey levels. Two are the same picture if their looks differ by less than a level
of 256 (root mean square), and by less than a thirtieth of their own contrast, for dark pictures all look alike. On the
sets in `../shared/data` this finds the copies that their descriptions name, 7 pairs of raccoons, 24 of houses, a skirt
that is shorts too, and none among handwritten digits, faces in one light, or objects of CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.images import LOOK

NEAR = 1.0
"""Grey levels, root mean square over a look."""
CONTRAST = 30.0
"""How many times that the standard deviation of a look has to be."""
MOST = 200_000
"""Pictures that are compared; of more, looking would take longer than training."""
FAMILY = 20
"""Copies of one picture at most: where more look alike a camera stands still, and each shows something else."""
PORTION = 256
ROUNDED = 16.0
"""What float32 may take from a sum of squares, and more: what is near by it is looked at exactly."""


def families(looks: Sequence[bytes]) -> list[list[int]]:
    """Pictures that are the same, two or more each, by their positions; in order.

    Args:
        looks: of N pictures, each `images.LOOK` bytes.
    """
    if not 1 < len(looks) <= MOST:
        return []
    levels = np.frombuffer(b"".join(looks), np.uint8).reshape(len(looks), LOOK).astype(np.float32)
    parents = list(range(len(looks)))
    crowded = np.zeros(len(looks), bool)
    for one, other in _pairs(levels, crowded):
        first, second = sorted((_root(parents, one), _root(parents, other)))
        parents[second] = first
    members: dict[int, list[int]] = {}
    for position in range(len(looks)):
        members.setdefault(_root(parents, position), []).append(position)
    return [family for family in members.values() if 1 < len(family) <= FAMILY and not crowded[family].any()]


def _pairs(levels: np.ndarray, crowded: np.ndarray) -> Iterator[tuple[int, int]]:
    """Positions of looks float32 [N, LOOK] that are near each other; not those of a look with `FAMILY` others near it.

    Such a look and those near it are noted in `crowded`, bool [N]: whatever they are joined with is no family. Told one
    by one, the pairs of 4,000 frames of one scene would take two minutes and a gigabyte.

    Near looks have means that differ by less: sorted by them only neighbours are compared.
    """
    means = levels.mean(axis=1)
    order = np.argsort(means, kind="stable")
    levels, means = levels[order], means[order]
    limits = np.minimum(NEAR, levels.std(axis=1) / CONTRAST)
    for start in range(0, len(levels), PORTION):
        stop = min(start + PORTION, len(levels))
        end = int(np.searchsorted(means, means[stop - 1] + NEAR, side="right"))
        # Around a common level, so that squares of large numbers take no digits from small differences.
        rows, others = levels[start:stop] - means[start], levels[start:end] - means[start]
        squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * rows @ others.T
        allowed = np.minimum(limits[start:stop, None], limits[None, start:end])
        later = np.arange(start, stop)[:, None] < np.arange(start, end)
        surely = later & (squares < allowed**2 * LOOK - ROUNDED)
        many = surely.sum(axis=1) >= FAMILY
        crowded[order[start:stop][many]] = True
        crowded[order[start:end][surely[many].any(axis=0)]] = True
        near = later & (squares < allowed**2 * LOOK + ROUNDED)
        near[many] &= ~surely[many]
        for row, other in zip(*np.nonzero(near), strict=True):
            apart = levels[start + row].astype(np.float64) - levels[start + other]
            if (apart**2).mean() <= allowed[row, other] ** 2:
                yield int(order[start + row]), int(order[start + other])


def _root(parents: list[int], position: int) -> int:
    while parents[position] != position:
        parents[position] = parents[parents[position]]
        position = parents[position]
    return position
