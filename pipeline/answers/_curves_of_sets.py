"""What the report draws of answers with any number of classes per image."""

from __future__ import annotations

import numpy as np

from pipeline.answering import Curve
from pipeline.answers._ranking import precision_at

BINS = 15
RECALLS = np.linspace(0, 1, 101)


def precision_recall(probabilities: np.ndarray, truth: np.ndarray) -> Curve | None:
    """The precision at each recall or a higher one, the mean over the classes that some image is of.

    Args:
        probabilities: float64 [N, K].
        truth: bool [N, K].
    """
    present = np.flatnonzero(truth.any(axis=0))
    if not len(present):
        return None
    mean = np.mean([precision_at(probabilities[:, k], truth[:, k], RECALLS) for k in present], axis=0)
    share = float(truth[:, present].mean())
    return Curve(
        title="Precision and recall",
        x_label="Share of the images of a class that are found",
        y_label="Share of what is said that is right",
        series=[("Mean over the classes", [(float(x), float(y)) for x, y in zip(RECALLS, mean, strict=True)])],
        summary=f"Precision at half of the recall: {mean[50]:.1%} on average over {len(present)} classes.",
        ideal=((0, share), (1, share)),
        ideal_name="Chance",
    )


def reliability(probabilities: np.ndarray, truth: np.ndarray) -> Curve | None:
    """How often a class is there by the probability that it was given, in 15 equal bins over all images and classes."""
    if not truth.size:
        return None
    flat, there = probabilities.ravel(), truth.ravel()
    place = np.clip(np.ceil(flat * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    used = np.flatnonzero(counts)
    shares = np.bincount(place, weights=there, minlength=BINS)[used] / counts[used]
    told = np.bincount(place, weights=flat, minlength=BINS)[used] / counts[used]
    summary = "; ".join(
        f"{count} times, {probability:.1%} on average, {share:.1%} of them there"
        for count, probability, share in zip(counts[used], told, shares, strict=True)
    )
    middles = (used + 0.5) / BINS
    return Curve(
        title="Probability and truth",
        x_label="Probability of a class",
        y_label="Share there (wider: more)",
        series=[("Share there", [(float(x), float(y)) for x, y in zip(middles, shares, strict=True)])],
        summary=f"Share of images that are of a class by its probability: {summary}.",
        ideal=((0, 0), (1, 1)),
        ideal_name="Perfectly calibrated",
        sizes=counts[used].tolist(),
    )
