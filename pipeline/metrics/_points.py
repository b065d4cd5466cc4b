"""What the scores of points count."""

from __future__ import annotations

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.answers.points import PointAnswers


def share_within(answers: PointAnswers, share: float, weights: np.ndarray) -> np.ndarray:
    """The share of the known points that are told within `share` of the normaliser, under weightings float64 [R, N]."""
    near, known = answers.within(share).sum(axis=1), answers.known.sum(axis=1)
    above, below = (np.einsum("rn,n->r", weights, counts.astype(np.float64)) for counts in (near, known))
    return ratio(above, below, np.nan)
