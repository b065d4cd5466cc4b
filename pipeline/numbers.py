"""Numbers told of pictures: how they are scaled to be learnt.

Prices spread over decades are learnt as logarithms; an angle as a point on a circle, for 359 and 1 lie next to each
other. Each is then shifted and divided so that it has mean 0 and deviation 1 over the training pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from pipeline.contracts import Options

SMALLEST = np.finfo(np.float64).tiny
"""Of which there is a logarithm."""
ROUNDING = 1e-12
"""Of a mean, what a deviation may come to by rounding alone."""


class Scale(Options):
    """How one number is learnt."""

    kind: Literal["linear", "log", "circular"] = "linear"
    """linear: as it is; log: its natural logarithm; circular: cosine and sine of its share of a period."""
    period: float = Field(default=0, ge=0, allow_inf_nan=False)
    """After which a circular number begins again."""
    mean: float = Field(default=0, allow_inf_nan=False)
    """Over the training pictures, of what is learnt of a linear number or of a logarithm."""
    deviation: float = Field(default=1, gt=0, allow_inf_nan=False)
    """Likewise."""

    @property
    def columns(self) -> int:
        """Of what a network learns: 2 of a circular number."""
        return 2 if self.kind == "circular" else 1


def of_numbers(values: np.ndarray, kind: str = "linear", period: float = 0) -> Scale:
    """The scale of one number, by what it is in the training pictures.

    Args:
        values: float64 [n], none of them unknown; of a logarithm > 0.
        kind: as `Scale.kind`.
        period: of a circular number.
    """
    if kind == "circular":
        return Scale(kind="circular", period=period)
    learnt = np.log(values) if kind == "log" else values
    mean, deviation = float(learnt.mean()), float(learnt.std())
    if deviation <= ROUNDING * abs(mean):  # always the same: nothing is to be divided
        deviation = 1.0
    return Scale.model_validate({"kind": kind, "mean": mean, "deviation": deviation})


def encoded(values: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """What is learnt of numbers.

    Args:
        values: float64 [N, T]; nan where one is not known.
        scales: T of them.

    Returns:
        float32 [N, T'], one column of each number, of a circular one two; nan where it is not known.
    """
    return learnt(values, scales).astype(np.float32)


def learnt(values: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """As `encoded`, in double precision."""
    columns: list[np.ndarray] = []
    for value, scale in zip(values.T, scales, strict=True):
        if scale.kind == "circular":
            turn = 2 * np.pi * value / scale.period
            columns += [np.cos(turn), np.sin(turn)]
        else:
            wide = np.log(np.maximum(value, SMALLEST)) if scale.kind == "log" else value
            columns.append((wide - scale.mean) / scale.deviation)
    return np.stack(columns, axis=1) if columns else np.zeros((len(values), 0))


def decoded(columns: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """`learnt` backwards: float64 [N, T'] to [N, T]; what is circular is at least 0 and below its period."""
    found: list[np.ndarray] = []
    at = 0
    for scale in scales:
        if scale.kind == "circular":
            turn = np.arctan2(columns[:, at + 1], columns[:, at]) / (2 * np.pi)
            found.append(np.mod(np.mod(turn, 1.0), 1.0) * scale.period)  # of a shade below 0 the first one makes 1
        else:
            wide = columns[:, at] * scale.deviation + scale.mean
            found.append(np.exp(wide) if scale.kind == "log" else wide)
        at += scale.columns
    return np.stack(found, axis=1) if found else np.zeros((len(columns), 0))


def distance(first: np.ndarray, second: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """`first` minus `second`, float64 [N, T]; of circular numbers the shorter way round: -1/2..1/2 of a period."""
    gaps: np.ndarray = first - second
    for column, scale in enumerate(scales):
        if scale.kind == "circular":
            half = scale.period / 2
            gaps[:, column] = np.mod(gaps[:, column] + half, scale.period) - half
    return gaps


def worded(value: float, digits: int = 6) -> str:
    """A number as people write it, with so many significant digits: `869,500`, `0.0132`, `unknown`."""
    if not np.isfinite(value):
        return "unknown"
    size = abs(value)
    if size and not 1e-4 <= size < 1e15:
        return f"{value:.{digits}g}"
    decimals = digits - 1 - (int(np.floor(np.log10(size))) if size else 0)
    rounded = round(value, decimals) + 0.0  # no "-0"
    text = f"{rounded:,.{max(0, decimals)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
