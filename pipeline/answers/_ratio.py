"""Shares of what may be nothing."""

from __future__ import annotations

import numpy as np


def ratio(above: np.ndarray, below: np.ndarray, otherwise: float) -> np.ndarray:
    """`above / below`, and `otherwise` where `below` is 0."""
    quotient = np.full(np.broadcast_shapes(above.shape, below.shape), float(otherwise))
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient
