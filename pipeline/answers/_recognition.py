"""The threshold between one person and two, and what the report draws of pairs and neighbours."""

from __future__ import annotations

import numpy as np

from pipeline.answering import Curve
from pipeline.answers._likeness import Neighbours, Roc

POINTS = 101
"""Of a curve."""
FALSE_ACCEPTS = 0.01
"""Share of which the report says what comes of it."""


def threshold(roc: Roc, apart: np.ndarray, false_accepts: float | None) -> float | None:
    """The distance below which two images are to be taken for one person.

    Args:
        roc: of images of people who were not learnt from.
        apart: the distances of its pairs, float64 [n], never falling.
        false_accepts: the share of pairs of two people that may be taken for one; None: as large as the share of pairs
            of one person that are taken for two, as nearly as it can be.

    Returns:
        In the middle between two distances that there are; None where pairs of one kind are missing.
    """
    if not roc.defined:
        return None
    if false_accepts is None:
        after = roc.crossing()
        step = min(after - 1, after, key=lambda at: abs(roc.false_accepts(at) + roc.true_accepts(at) - 1))
    else:
        step = roc.within(false_accepts)
    if step < 0:
        return float(apart[0])
    last = int(roc.ends[step])
    return float(apart[last : last + 2].mean()) if last + 1 < len(apart) else float(np.nextafter(apart[last], 3))


def accepted(roc: Roc) -> Curve:
    """How many pairs of one person are found by how many of two are taken for one."""
    grid = np.linspace(0, 1, POINTS) ** 2  # finer near 0
    steps = range(-1, len(roc.ends))
    thinned = list(steps) if len(steps) <= POINTS else sorted({roc.within(share) for share in grid} | {-1})
    points = [(roc.false_accepts(step), roc.true_accepts(step)) for step in thinned]
    found, error = roc.true_accepts(roc.within(FALSE_ACCEPTS)), roc.equal_error()
    return Curve(
        title="Two images, one person?",
        x_label="Pairs of two people taken for one",
        y_label="Pairs of one person found",
        series=[("All pairs", points)],
        summary=(
            f"ROC curve of {len(roc.accepted):,} pairs: where {FALSE_ACCEPTS:.0%} of the pairs of two people are taken "
            f"for one, {found:.1%} of those of one person are found; both errors are {error:.1%} where they are equal."
        ),
        ideal=((0, 0), (1, 1)),
        ideal_name="Chance",
    )


def ranked(neighbours: Neighbours, labels: np.ndarray) -> Curve:
    """How soon the person of an image is found among the others, the nearest first; of people with two images."""
    several = np.isfinite(neighbours.nearest)
    order = neighbours.order[several]
    right = labels[order] == labels[several][:, None]
    first, others = np.sort(right.argmax(axis=1)), order.shape[1]
    ranks = np.unique(np.minimum(np.ceil(np.linspace(0, 1, POINTS) ** 2 * others).astype(np.int64), others))[1:]
    points = [(float(rank / others), float((first < rank).mean())) for rank in ranks]
    shown = ", ".join(f"{(first < rank).mean():.1%} among the nearest {rank}" for rank in (1, 5) if rank <= others)
    return Curve(
        title="How soon the person is found",
        x_label="Share of the other images looked at, the nearest first",
        y_label="Images whose person is among them",
        series=[("All images", points)],
        summary=f"Cumulative match characteristic: the person is found in {shown} of the {others:,} other images.",
        ideal=((0, 0), (1, 1)),
        ideal_name="Chance, if one other image shows the person",
    )
