"""Every training picture once an epoch, in an order that is drawn anew each time."""

from __future__ import annotations

import numpy as np

from pipeline.training import Known, OrderConfig


class Config(OrderConfig):
    """The usual one."""

    def order(self, random: np.random.Generator, epoch: int, epochs: int, known: Known) -> np.ndarray:
        """See `OrderConfig.order`: a permutation."""
        order: np.ndarray = random.permutation(known.count)
        return order
