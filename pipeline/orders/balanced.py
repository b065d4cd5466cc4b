"""Each class equally often: pictures of rare classes come again, and of frequent ones each epoch shows another part.

Source: Kang et al. Decoupling Representation and Classifier for Long-Tailed Recognition, 2020, equation 1 with q = 0
(class-balanced sampling); here without the luck of a draw: each class is walked round and round.
"""

from __future__ import annotations

import numpy as np

from pipeline.training import Known, OrderConfig


class Config(OrderConfig):
    """Among the pictures of a class each comes as often as the others, counted over all epochs; but those at the end of
    an epoch that fill no batch are not learnt from."""

    @property
    def by_class(self) -> bool:
        """See `OrderConfig.by_class`."""
        return True

    def order(self, random: np.random.Generator, epoch: int, epochs: int, known: Known) -> np.ndarray:
        """See `OrderConfig.order`."""
        assert known.classes is not None
        parts = []
        for members, first, end in zip(*rounds(known.classes, epoch), strict=True):
            parts.append(members[np.arange(first, end) % len(members)])
        order: np.ndarray = random.permutation(np.concatenate(parts))
        return order


def rounds(classes: np.ndarray, epoch: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """The views of each class that there is, and from which place to which an epoch walks on in them.

    Of K classes, the one at k has seen floor((e V + k) / K) of its views when epoch e begins: the K numbers add up to
    e V (Hermite's identity), so that every epoch has V views, and no class is ever more than one ahead of another.

    Args:
        classes: of each view, int64 [V].
        epoch: 0-based.
    """
    present = np.unique(classes)
    members = [np.flatnonzero(classes == label) for label in present]
    count, places = len(classes), np.arange(len(present))
    first, end = ((at * count + places) // len(present) for at in (epoch, epoch + 1))
    return members, first, end
