"""Easy pictures first: an epoch shows a share of the easiest, which grows until it is all of them.

Source: Bengio, Louradour, Collobert, Weston. Curriculum Learning, 2009; the pace is the exponential one of Hacohen,
Weinshall. On The Power of Curriculum Learning in Training Deep Networks, 2019. What is easy is told by a column, or by
the network itself while it learns, as in Kumar, Packer, Koller. Self-Paced Learning for Latent Variable Models, 2010.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from pipeline.training import Known, OrderConfig


class Config(OrderConfig):
    """The same share of every class, where there are classes: the easiest of all may be of one class alone.

    Until the share is all of them, those in it are seen several times an epoch: all epochs are as long.
    """

    by: Literal["loss", "column"] = "loss"
    """What is easy: what the network has a small loss on, measured anew every few epochs, or a column says it."""
    column: str = ""
    """Of `samples.parquet`, with how hard each picture is."""
    first: Literal["lowest", "highest"] = "lowest"
    """Which end of the losses, or of the column, is seen first."""
    start: float = Field(0.3, gt=0, lt=1)
    """Share of the pictures that is seen first."""
    grown_at: float = Field(0.5, gt=0, le=1)
    """Share of the epochs after which all pictures are seen."""
    warmup_epochs: int = Field(1, ge=0)
    """By loss: epochs that show all pictures before it begins, as losses mean nothing before anything is learnt; 0 is
    for networks that bring weights along."""
    every: int = Field(1, ge=1)
    """By loss: epochs after which losses are measured anew; each time all training pictures go through the network."""

    @model_validator(mode="after")
    def _goes_by_one_thing(self) -> Config:
        if self.by == "column" and not self.column:
            raise ValueError("by is 'column', and none is named; set column, or by to loss")
        if self.by == "loss" and self.column:
            raise ValueError(
                f"by is 'loss', and the column {self.column!r} is named; set by to column, or leave it out"
            )
        for name in ("warmup_epochs", "every"):
            found = getattr(self, name)
            if self.by == "column" and found != type(self).model_fields[name].default:
                raise ValueError(f"by is 'column', and {name} is {found}, which is for losses; leave it out")
        return self

    def idle(self, epochs: int) -> str:
        """See `OrderConfig.idle`."""
        if self.by == "column" or self.warmup_epochs < self.grown_at * epochs:
            return ""
        return (
            f"would begin after order.warmup_epochs, {self.warmup_epochs}, and end after order.grown_at, "
            f"{self.grown_at:g}, of {epochs} epochs, so that none shows a part of the pictures; set train.epochs to "
            f"{math.floor(self.warmup_epochs / self.grown_at) + 1} or more, or order to shuffled"
        )

    def measures(self, epoch: int, epochs: int) -> bool:
        """See `OrderConfig.measures`: every few epochs from the warm-up's end on, until all pictures are seen."""
        since = epoch - self.warmup_epochs
        return self.by == "loss" and since >= 0 and since % self.every == 0 and self.share(epoch, epochs) < 1

    def share(self, epoch: int, epochs: int) -> float:
        """Of the pictures that an epoch shows, in 0..1: each epoch it grows by the same factor."""
        begins = self.warmup_epochs if self.by == "loss" else 0
        grown = self.grown_at * epochs
        if not begins <= epoch < grown:
            return 1.0
        return math.exp(math.log(self.start) * (grown - epoch) / (grown - begins))

    def order(self, random: np.random.Generator, epoch: int, epochs: int, known: Known) -> np.ndarray:
        """See `OrderConfig.order`; where no losses are known, as of a trial step, it is any."""
        share = self.share(epoch, epochs)
        hardness = known.column(self.column) if self.by == "column" else known.losses
        if share == 1 or hardness is None:
            return random.permutation(known.count)
        easiest = easier(hardness if self.first == "lowest" else -hardness, known.classes, share)
        laps = [random.permutation(easiest) for _ in range(-(-known.count // len(easiest)))]
        return np.concatenate(laps)[: known.count]


def easier(hardness: np.ndarray, classes: np.ndarray | None, share: float) -> np.ndarray:
    """The easiest views of each class, at least one of it; between equals the first.

    Args:
        hardness: of each view, float64 [V]; nan is the hardest.
        classes: of each, int64 [V]; None: all are taken together.
        share: of each class, in 0..1.

    Returns:
        int64, rising.
    """
    kinds = np.zeros(len(hardness), np.int64) if classes is None else classes
    ranked = np.lexsort((hardness, kinds))  # class after class, in each the easiest first
    _, counts = np.unique(kinds, return_counts=True)
    within = np.arange(len(ranked)) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = within < np.repeat(np.maximum(1, np.round(share * counts)), counts)
    easiest: np.ndarray = np.sort(ranked[taken])
    return easiest
