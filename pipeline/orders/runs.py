"""Every picture once, but for so many of a class that follow each other: for losses that compare pictures in a batch.

Source: Schroff, Kalenichenko, Philbin. FaceNet, 2015, section 3.2, where a batch holds some 40 faces of each person.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from pipeline.training import Known, OrderConfig


class Config(OrderConfig):
    """A batch then holds pairs."""

    images_per_class: int = Field(4, ge=1)
    """How many of a class follow each other; what is left of a class at the end may be fewer."""

    @property
    def by_class(self) -> bool:
        """See `OrderConfig.by_class`."""
        return True

    @property
    def in_a_row(self) -> int:
        """See `OrderConfig.in_a_row`."""
        return self.images_per_class

    def order(self, random: np.random.Generator, epoch: int, epochs: int, known: Known) -> np.ndarray:
        """See `OrderConfig.order`: a permutation."""
        assert known.classes is not None
        return in_runs(random.permutation(known.count), known.classes, self.images_per_class)


def in_runs(order: np.ndarray, classes: np.ndarray, length: int) -> np.ndarray:
    """The same order, but for so many images of a class that follow each other.

    Each class gives its images in runs, the last of which may be shorter; in every round each class that has some left
    gives one run, in the order in which the first images of these runs came.

    Args:
        order: a permutation of the N images, int64 [N].
        classes: of each image, int64 [N].
        length: of a run, > 0.

    Returns:
        A permutation, int64 [N].
    """
    of_class = classes[order]
    by_class = np.argsort(of_class, kind="stable")  # places in `order`, class after class
    counts = np.unique(of_class, return_counts=True)[1]
    within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    run = within // length
    first = by_class[np.arange(len(order)) - within % length]  # the place of the first image of the run
    arranged: np.ndarray = order[by_class[np.lexsort((within, first, run))]]
    return arranged
