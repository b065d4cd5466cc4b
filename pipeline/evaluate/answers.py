"""What the network said of the test images, beside what is true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

SMALLEST = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Answers:
    """Probabilities and truth of N images."""

    classes: Sequence[str]
    """K names."""
    labels: np.ndarray
    """The true class ids, int64 [N]."""
    probabilities: np.ndarray
    """float64 [N, K], rows sum to 1."""

    @cached_property
    def predicted(self) -> np.ndarray:
        """The most probable class, int64 [N]; of equal ones the first."""
        best: np.ndarray = self.probabilities.argmax(axis=1)
        return best

    @cached_property
    def right(self) -> np.ndarray:
        """Whether it is the true one, bool [N]."""
        right: np.ndarray = self.predicted == self.labels
        return right

    @cached_property
    def confidence(self) -> np.ndarray:
        """Its probability, float64 [N]."""
        confidence: np.ndarray = self.probabilities.max(axis=1)
        return confidence

    @cached_property
    def losses(self) -> np.ndarray:
        """Minus the logarithm of the true class's probability, in nats: float64 [N], finite."""
        true = self.probabilities[np.arange(len(self.labels)), self.labels]
        losses: np.ndarray = -np.log(np.maximum(true, SMALLEST))
        return losses

    def worst(self, count: int) -> list[int]:
        """The positions of at most `count` wrong answers, the highest loss first."""
        order = np.lexsort((np.arange(len(self.labels)), -self.losses))
        positions: list[int] = order[~self.right[order]][:count].tolist()
        return positions
