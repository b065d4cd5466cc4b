"""Drawn with replacement, each picture by its weight: that of its class, or a number of its own.

Source: Mahajan et al. Exploring the Limits of Weakly Supervised Pretraining, 2018, which weighs by the root of the
inverse frequency of a class.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from pipeline.errors import UserError
from pipeline.training import Known, OrderConfig


class Config(OrderConfig):
    """An epoch has as many views as there are; some come several times, others in another epoch."""

    power: float = Field(0.5, ge=0, le=2)
    """Of the inverse number of a class's pictures, which is their weight: 0 weighs every picture alike, 1 shows
    every class equally often."""
    column: str = ""
    """The column of `samples.parquet` that holds the weights, in place of the classes; none may be below 0."""

    @model_validator(mode="after")
    def _goes_by_one_thing(self) -> Config:
        if self.column and self.power != type(self).model_fields["power"].default:
            raise ValueError(
                f"power is {self.power:g}, which is of classes, and the column {self.column!r} is named; leave one of "
                "them out"
            )
        return self

    @property
    def by_class(self) -> bool:
        """See `OrderConfig.by_class`."""
        return not self.column

    def order(self, random: np.random.Generator, epoch: int, epochs: int, known: Known) -> np.ndarray:
        """See `OrderConfig.order`.

        Raises:
            UserError: the column holds no weights.
        """
        weights = self._weights(known)
        return random.choice(known.count, known.count, p=weights / weights.sum())

    def _weights(self, known: Known) -> np.ndarray:
        """Of each view, >= 0 and not all 0: float64 [V]."""
        if not self.column:
            assert known.classes is not None
            _, kind, counts = np.unique(known.classes, return_inverse=True, return_counts=True)
            by_class: np.ndarray = counts.astype(np.float64)[kind] ** -self.power
            return by_class
        weights = known.column(self.column)
        wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if len(wrong):
            raise UserError(
                f"params.yaml: order.column {self.column!r} holds {weights[wrong[0]]:g} for {len(wrong):,} of "
                f"{known.count:,} training pictures, and weights are numbers from 0 on. Mend it, or name another."
            )
        if not weights.any():
            raise UserError(
                f"params.yaml: order.column {self.column!r} is 0 for all {known.count:,} training pictures, so that "
                "none would ever be drawn. Mend it, or name another."
            )
        return weights
