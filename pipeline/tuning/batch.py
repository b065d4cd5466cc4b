"""Which batch size is fastest, and which is the largest that fits, found by trying."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pipeline.tuning.apart import TooLarge
from pipeline.tuning.room import FEWEST, Line, expected, largest
from pipeline.tuning.trial import SHARE, Subject, Trial, attempt

FIRST = 8
NEARLY = 0.95
"""Of the best speed: a smaller batch that is as fast as this learns more per picture, and is proposed."""
PATIENCE = 30.0
"""Seconds that a step may take; larger batches are not tried."""


class _Slow(Exception):
    """Larger batches are not worth trying."""


class Hint(NamedTuple):
    """The learning rate that goes with another batch size, by the two rules that there are."""

    linear: float
    """Goyal et al. Accurate, Large Minibatch SGD, 2017: for SGD."""
    root: float
    """Malladi et al. On the SDEs and Scaling Rules for Adaptive Gradient Algorithms, 2022: for Adam and its kin."""


@dataclass
class Found:
    """What was tried, and what follows."""

    trials: list[Trial] = field(default_factory=list)
    """Those that fit, the smallest batch first."""
    too_large: int = 0
    """The smallest batch that does not fit, by trial or by what it is expected to take; 0: none was met."""
    why: str = ""
    """What ended the search, as a part of a sentence."""

    @property
    def largest(self) -> Trial:
        """That fits, of those that were tried."""
        return self.trials[-1]

    @property
    def fastest(self) -> Trial:
        """The smallest batch that is about as fast as the fastest."""
        best = max(trial.images_per_second for trial in self.trials)
        return next(trial for trial in self.trials if trial.images_per_second >= NEARLY * best)

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
    found = Found(why=f"all {pictures:,} training pictures" if most == pictures else "the most that was asked for")
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
        found.too_large, found.why = min(size, found.too_large or size), outcome
        say(f"batch {size:>5}: {outcome}")
        return False

    with suppress(_Slow):
        largest(fits, min(max(FIRST, 2 * parts), most), most)
    return found


def hint(rate: float, old: int, new: int) -> Hint:
    """What a learning rate for batches of `old` becomes for batches of `new`."""
    return Hint(rate * new / old, rate * math.sqrt(new / old))


def in_words(trial: Trial) -> str:
    """A line about one trial."""
    return f"batch {trial.size:>5}: {trial.peak / 1e6:>9,.0f} MB, {trial.images_per_second:>8,.0f} images/s"


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
