"""What metrics of numbers share: means over the images that are known, and then over the numbers."""

from __future__ import annotations

import numpy as np

from pipeline.answers._ratio import ratio
from pipeline.answers.numbers import NumberAnswers


def errors(answers: NumberAnswers) -> np.ndarray:
    """What is said minus what is true, float64 [N, T]; nan where it is not known.

    Of one number, and of counts, in its own unit. Several numbers have units that cannot be added up: then each counts
    in deviations of the training pictures, as `NumberAnswers.relative` has them.
    """
    return answers.errors if answers.alike else answers.relative


def per_number(values: np.ndarray, answers: NumberAnswers, weights: np.ndarray) -> np.ndarray:
    """The mean of values [N, T] over the images of which a number is known, under weights [R, N]: float64 [R, T].

    Images that share one answer count once. nan where no such image has weight.
    """
    counted = np.where(np.isnan(values), 0.0, answers.counted[:, None])
    sums = np.einsum("rn,nt->rt", weights, np.nan_to_num(values) * counted)  # no BLAS: its bits depend on its threads
    return ratio(sums, np.einsum("rn,nt->rt", weights, counted), np.nan)


def over_numbers(scores: np.ndarray) -> np.ndarray:
    """The plain mean of scores [R, T] over the numbers that have one: float64 [R], nan where none has."""
    known = ~np.isnan(scores)
    return ratio(np.where(known, scores, 0.0).sum(axis=1), known.sum(axis=1), np.nan)
