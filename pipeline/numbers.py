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


class Scale(Options):
    """How one number is learnt."""

    kind: Literal["linear", "log", "circular"] = "linear"
    """linear: as it is; log: its natural logarithm; circular: cosine and sine of its share of a period."""
    period: float = Field(0, ge=0, allow_inf_nan=False)
    """After which a circular number begins again."""
    mean: float = Field(0, allow_inf_nan=False)
    """Over the training pictures, of what is learnt of a linear number or of a logarithm."""
    deviation: float = Field(1, gt=0, allow_inf_nan=False)
    """Likewise."""

    @property
    def columns(self) -> int:
        """Of what a network learns: 2 of a circular number."""
        return 2 if self.kind == "circular" else 1


def encoded(values: np.ndarray, scales: Sequence[Scale]) -> np.ndarray:
    """What is learnt of numbers.

    Args:
        values: float64 [N, T]; nan where one is not known.
        scales: T of them.

    Returns:
        float32 [N, T'], one column of each number, of a circular one two; nan where it is not known.
    """
    columns: list[np.ndarray] = []
    for value, scale in zip(values.T, scales, strict=True):
        if scale.kind == "circular":
            turn = 2 * np.pi * value / scale.period
            columns += [np.cos(turn), np.sin(turn)]
        else:
            learnt = np.log(value) if scale.kind == "log" else value
            columns.append((learnt - scale.mean) / scale.deviation)
    return np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((len(values), 0), np.float32)
