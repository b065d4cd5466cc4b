"""What the scores of pairs of images share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.answers._likeness import Roc
from pipeline.answers._ratio import ratio
from pipeline.answers.identities import IdentityAnswers


def of_curves(worth: Callable[[Roc], float], answers: IdentityAnswers, weights: np.ndarray) -> np.ndarray:
    """A score of the curve of accepted pairs: float64 [R], nan where pairs of one person, or of two, have no weight."""
    return np.array([worth(roc) if roc.defined else np.nan for roc in answers.pairs.curves(weights)])


def true_accepts(answers: IdentityAnswers, weights: np.ndarray, share: float) -> np.ndarray:
    """The share of the pairs of one person that are found where no more than `share` of those of two are accepted."""
    return of_curves(lambda roc: roc.true_accepts(roc.within(share)), answers, weights)


def found_among(answers: IdentityAnswers, weights: np.ndarray, among: int) -> np.ndarray:
    """The share of the images of whose nearest others, so many, one shows the same person.

    A weight is that of an image that is looked for; it is looked for among all others, whatever these weigh. A resample
    misses a third of the people, so that whoever is left would be found more easily than among all of them.
    """
    found, several = answers.neighbours.found(answers.labels, among), ~answers.alone
    above, below = (np.einsum("rn,n->r", weights, one.astype(np.float64)) for one in (found & several, several))
    return ratio(above, below, np.nan)
