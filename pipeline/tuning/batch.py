"""Which batch size is fastest, and which is the largest that fits, found by trying.

Speed alone would propose all pictures at once: an epoch of one step, from which little is learnt. So what is proposed
leaves an epoch some steps, whatever larger batches would save.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import nn

from pipeline.training import OptimizerConfig
from pipeline.tuning.apart import TooLarge
from pipeline.tuning.rates import rounded
from pipeline.tuning.room import FEWEST, Line, expected, largest
from pipeline.tuning.trial import SHARE, Subject, Trial, attempt

FIRST = 8
NEARLY = 0.95
"""Of the best speed: a smaller batch that is as fast as this learns more per picture, and is proposed."""
STEPS = 10
"""Of an epoch, at least, with the batch that is proposed: longer epochs teach hardly more, shorter ones less and less.
(Measured on digits, 10 epochs of `convnet` with AdamW, its rate by the square root, validation loss of two seeds: 0.313
with 36 steps an epoch, 0.316 with 18, 0.326 with 10, 0.323 with 8, 0.338 with 5, 0.382 with 3, 0.564 with 2.)"""
PATIENCE = 30.0
"""Seconds that a step may take; larger batches are not tried."""


class _Slow(Exception):
    """Larger batches are not worth trying."""


class Hint(NamedTuple):
    """The learning rate that goes with another batch size, by the two rules that there are."""

    linear: float
    """Goyal et al. Accurate, Large Minibatch SGD, 2017: for steps that are as long as the gradient is."""
    root: float
    """Malladi et al. On the SDEs and Scaling Rules for Adaptive Gradient Algorithms, 2022, for Adam; You et al. Large
    Batch Optimization for Deep Learning, 2019, for LAMB: for steps that are as long whatever the gradient is."""


@dataclass
class Found:
    """What was tried, and what follows."""

    trials: list[Trial] = field(default_factory=list)
    """Those that fit, the smallest batch first."""
    why: str = ""
    """What ended the search, as the rest of a sentence."""

    @property
    def largest(self) -> Trial:
        """That fits, of those that were tried."""
        return self.trials[-1]

    @property
    def quickest(self) -> Trial:
        """With the most images a second: the largest is not always that."""
        return max(self.trials, key=lambda trial: trial.images_per_second)

    @property
    def fastest(self) -> Trial:
        """The smallest batch that is about as fast as the fastest."""
        return _fastest(self.trials)

    @property
    def proposed(self) -> Trial | None:
        """The same of those that leave an epoch enough steps; None where there is no choice between several."""
        able = [trial for trial in self.trials if trial.steps() >= STEPS]
        if not able or len(self.trials) == 1:
            return None
        return self.fastest if self.fastest in able else _fastest(able)

    @property
    def doubt(self) -> str:
        """Why none is proposed, as the rest of a sentence."""
        only = self.trials[0]
        if len(self.trials) == 1:
            return f"only a batch of {only.size} was tried, and there is nothing to compare it with: {self.why}"
        return (
            f"of {only.views:,} pictures even a batch of {only.size} makes {an_epoch(only.steps())}, and fewer than "
            f"{STEPS} teach little; take {max(1, only.views // STEPS):,} or fewer"
        )

    @property
    def line(self) -> Line | None:
        """Memory against the batch; None where too few sizes were tried."""
        if len(self.trials) < FEWEST:
            return None
        return Line.through([trial.size for trial in self.trials], [trial.peak for trial in self.trials])


def find(subject: Subject, pictures: int, most: int, say: Callable[[str], None]) -> Found:
    """Try batch sizes, the smallest first.

    Args:
        subject: what is tried; steps are computed as a training of its batch size would.
        pictures: of the training split: no batch is larger.
        most: nor than this.
        say: told after each trial.

    Raises:
        UserError: the network cannot be trained at all, for other reasons than memory.
    """
    most = min(most, pictures)
    found = Found(why=f"there are {pictures:,} training pictures" if most == pictures else "no more was asked for")
    parts = subject.params.train.accumulation
    subject = replace(subject, arithmetic=_arithmetic(subject, most))

    def fits(size: int) -> bool:
        outcome = _outcome(subject, size, found)
        if isinstance(outcome, Trial):
            found.trials = sorted([*found.trials, outcome])
            say(in_words(outcome))
            if outcome.seconds > PATIENCE:
                found.why = f"a step takes {outcome.seconds:.0f} s"
                raise _Slow
            return True
        found.why = f"a batch of {size} {outcome}"  # the next that does not fit is smaller
        say(f"batch {size:>5}: {outcome}")
        return False

    with suppress(_Slow):
        largest(fits, min(max(FIRST, 2 * parts), most), most)
    return found


def rate_for(optimizer: OptimizerConfig, old: int, new: int) -> float:
    """The learning rate that goes with another batch size, in two digits, by the rule of how the optimizer steps."""
    rates = hint(optimizer.lr, old, new)
    return rounded(rates.root if steady(optimizer) else rates.linear)


def hint(rate: float, old: int, new: int) -> Hint:
    """What a learning rate for batches of `old` becomes for batches of `new`."""
    return Hint(rate * new / old, rate * math.sqrt(new / old))


def steady(optimizer: OptimizerConfig) -> bool:
    """Whether its steps are as long whatever the gradient is, as Adam's: tried on a bank of filters."""
    lengths = []
    for size in (1.0, 2.0):
        filters = nn.Parameter(torch.zeros(2, 2, 2, 2))
        filters.grad = torch.linspace(-size, size, filters.numel()).view_as(filters)
        optimizer.build([{"params": [filters]}]).step()
        lengths.append(filters.norm().item())
    return math.isclose(*lengths, rel_tol=0.01)


def an_epoch(steps: int) -> str:
    """So many steps, in words."""
    return f"{steps:,} step{'s' if steps != 1 else ''} an epoch"


def in_words(trial: Trial) -> str:
    """A line about one trial."""
    measured = f"{trial.peak / 1e6:>9,.0f} MB, {trial.images_per_second:>8,.0f} images/s"
    return f"batch {trial.size:>5}: {measured}, {an_epoch(trial.steps()):>21}"


def _fastest(trials: Sequence[Trial]) -> Trial:
    """The smallest that is about as fast as the fastest of them."""
    best = max(trial.images_per_second for trial in trials)
    return next(trial for trial in trials if trial.images_per_second >= NEARLY * best)


def _arithmetic(subject: Subject, most: int) -> tuple[str, ...]:
    """What a training of the batch size of params would choose, or, where that does not fit, one of the first size."""
    for size in (min(subject.params.train.batch_size, most), min(FIRST, most)):
        try:
            return attempt(subject, size).arithmetic
        except TooLarge:
            continue
    return ()


def _outcome(subject: Subject, size: int, found: Found) -> Trial | str:
    """What a size took, or why it does not fit."""
    sizes, peaks = [trial.size for trial in found.trials], [trial.peak for trial in found.trials]
    if found.trials:
        room = SHARE * min(trial.room for trial in found.trials)
        if (will := expected(sizes, peaks, size)) > room:
            return f"would take {will / 1e6:,.0f} MB, and {room / 1e6:,.0f} MB may be taken"
    try:
        trial = attempt(subject, size)
    except TooLarge:
        return "does not fit into memory"
    if trial.peak > SHARE * trial.room:
        return f"takes {trial.peak / 1e6:,.0f} MB, and {SHARE * trial.room / 1e6:,.0f} MB may be taken"
    return trial
