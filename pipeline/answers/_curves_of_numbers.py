"""Curves of numbers: what is said over what is true, and how the errors lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.answering import Curve, Span
from pipeline.numbers import ROUNDING, Scale, distance, worded

DRAWN = 4
"""Numbers that have curves."""
BINS = 10
STEPS = 15
"""Of the histogram of errors, uneven: the middle one is about 0."""
FEWEST = 3
"""Images behind a point."""


def curves_of(names: Sequence[str], truth: np.ndarray, said: np.ndarray, scales: Sequence[Scale]) -> list[Curve]:
    """Of each of the first numbers two curves.

    Args:
        names: T of them.
        truth: float64 [N, T]; nan where one is not known.
        said: float64 [N, T].
        scales: T of them.
    """
    found = []
    for column, (name, scale) in enumerate(zip(names[:DRAWN], scales, strict=False)):
        known = ~np.isnan(truth[:, column])
        if known.sum() < FEWEST:
            continue
        true, told = truth[known, column], said[known, column]
        found += [_said_over_true(name, true, told, scale), _errors(name, true, told, scale)]
    return found


def _said_over_true(name: str, true: np.ndarray, told: np.ndarray, scale: Scale) -> Curve:
    """The median, and the lowest and highest tenth, of what is said in ten parts of the images by what is true."""
    if scale.kind == "circular":  # what is said is the way round from the truth, so that 359 lies beside 1
        true = np.mod(true, scale.period)
        told = true + distance(told[:, None], true[:, None], [scale])[:, 0]
    low, high = (0.0, scale.period) if scale.kind == "circular" else (float(true.min()), float(true.max()))
    span = _span(low, high, scale.kind == "log")
    way = np.log if span.log else np.asarray
    start, end = float(way(np.array(span.low))), float(way(np.array(span.high)))

    def share(values: np.ndarray) -> np.ndarray:
        return np.clip((way(values) - start) / (end - start), 0, 1)

    order = np.argsort(true, kind="stable")
    parts = [part for part in np.array_split(order, min(BINS, max(1, len(true) // FEWEST))) if len(part)]
    x = [float(np.median(share(true[part]))) for part in parts]
    lines = [
        (title, [(at, float(np.quantile(share(told[part]), q))) for at, part in zip(x, parts, strict=True)])
        for title, q in (("Median", 0.5), ("Lowest tenth", 0.1), ("Highest tenth", 0.9))
    ]
    middle = "; ".join(f"{worded(float(np.median(true[part])), 4)}: {_median(told[part])}" for part in parts)
    return Curve(
        title=f"{name}: what is said over what is true",
        x_label="True",
        y_label="Said",
        series=lines,
        summary=f"Median of what is said of {name} by what is true: {middle}.",
        ideal=((0, 0), (1, 1)),
        ideal_name="Exact",
        x_span=span,
        y_span=span,
    )


def _errors(name: str, true: np.ndarray, told: np.ndarray, scale: Scale) -> Curve:
    """A histogram of the errors; those beyond the largest of 99 in 100 are in the outermost bars."""
    errors = distance(told[:, None], true[:, None], [scale])[:, 0]
    reach = float(np.quantile(np.abs(errors), 0.99)) or 1.0
    place = np.clip((errors / reach + 1) / 2 * STEPS, 0, STEPS - 1).astype(np.int64)
    counts = np.bincount(place, minlength=STEPS)
    bins = np.flatnonzero(counts).tolist()
    return Curve(
        title=f"{name}: errors",
        x_label="Said minus true",
        y_label="Share of the images",
        series=[("Share", [((index + 0.5) / STEPS, counts[index] / len(errors)) for index in bins])],
        summary=(
            f"Errors of {name}: half of them within {worded(float(np.median(np.abs(errors))), 4)}, nine of ten within "
            f"{worded(float(np.quantile(np.abs(errors), 0.9)), 4)}; {_median(errors)} in the middle."
        ),
        x_span=Span(-reach, reach),
        sizes=[int(counts[index]) for index in bins],
    )


def _span(low: float, high: float, log: bool) -> Span:
    """The axis from the lowest to the highest; of numbers that are the same but for rounding a wider one."""
    if high - low > ROUNDING * max(abs(low), abs(high)):
        return Span(low, high, log)
    return Span(low, low + (abs(low) or 1.0))


def _median(values: np.ndarray) -> str:
    return worded(float(np.median(values)), 4)
