"""The trainings that make one model: one, or the members of an ensemble, which differ in seeds or in folds.

Source of the soup: Wortsman et al. Model soups: averaging weights of multiple fine-tuned models improves accuracy
without increasing inference time, 2022.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import torch
from torch import Tensor

from pipeline.dataset import Dataset, Split
from pipeline.errors import UserError
from pipeline.params import TrainParams
from pipeline.train.counts import counts_of
from pipeline.train.learner import counted


@dataclass(frozen=True)
class Member:
    """One training: what it learns from, and the seeds of all that is random in it."""

    number: int
    """1-based; 0: it is the only one."""
    of: int
    seed: int
    """Of order, augmentation, dropout and blends."""
    weights_seed: int
    """Of the first weights."""
    train: Split
    val: Split
    folded: bool = False
    """Whether these are folds, and not the splits of the dataset."""

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset as this training sees it: of its training images `counts` tells what `train` holds."""
        dataset = self.train.dataset
        if not self.folded:
            return dataset
        counts = {**dataset.info.counts, "train": counts_of(self.train)}
        return replace(dataset, info=dataset.info.model_copy(update={"counts": counts}))

    @property
    def title(self) -> str:
        """In words, empty if it is the only one: `member 2 of 5: `."""
        return f"member {self.number} of {self.of}: " if self.number else ""


def members_of(params: TrainParams, dataset: Dataset) -> list[Member]:
    """The trainings that params ask for, one after the other.

    Raises:
        UserError: there are fewer groups of images than folds.
    """
    options, train, val = params.ensemble, dataset.split("train"), dataset.split("val")
    by_folds = options.by == "folds" and options.members > 1
    parts = folded(train, val, options.members) if by_folds else [(train, val)] * options.members
    seeds = [params.seed, *(counted(params.seed, "member", number) % 2**32 for number in range(1, options.members))]
    first = 1 if options.members > 1 else 0
    return [
        Member(number, options.members, seed, params.seed if options.join == "soup" else seed, *part, by_folds)
        for number, (seed, part) in enumerate(zip(seeds, parts, strict=True), start=first)
    ]


def folded(train: Split, val: Split, count: int) -> list[tuple[Split, Split]]:
    """Of so many folds, each once for validation, and the others to learn from.

    What ingest never parts is in one fold: images of one group, and the same picture under several names. A hash of
    what names them, or of an image by itself, orders them, and they are dealt out in turn.

    Args:
        train: the training split.
        val: the validation split.
        count: of folds, 2 at least.

    Raises:
        UserError: there are fewer of them than folds.
    """
    both = Split(train.dataset, pa.concat_tables([train.samples, val.samples]).sort_by("id"))
    ordered = sorted(set(both.together), key=lambda name: hashlib.blake2b(name.encode()).digest())
    if len(ordered) < count:
        raise UserError(
            f"params.yaml: ensemble.members is {count}, but train and val hold {len(ordered)} images or groups of them "
            "that are never parted: there is nothing to put into each fold. Set fewer members, or ensemble.by to seeds."
        )
    fold_of = {name: place % count for place, name in enumerate(ordered)}
    folds = [fold_of[name] for name in both.together]
    return [
        (
            both.at([row for row, fold in enumerate(folds) if fold != number]),
            both.at([row for row, fold in enumerate(folds) if fold == number]),
        )
        for number in range(count)
    ]


def soup(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the weights of several networks that began alike; counters are those of the first."""
    return {
        name: torch.stack([state[name] for state in states]).double().mean(dim=0).to(first.dtype)
        if first.is_floating_point()
        else first
        for name, first in states[0].items()
    }
