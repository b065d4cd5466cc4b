"""Where the time of a step goes: the real loop with a stopwatch, and its two halves, each alone."""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

from torch.profiler import ProfilerActivity
from torch.profiler import profile as watched

from pipeline.contracts import SMALLEST
from pipeline.errors import UserError
from pipeline.host import cores
from pipeline.train.assembly import Training
from pipeline.train.batches import AHEAD, Batch
from pipeline.train.epochs import keep_track
from pipeline.train.learner import build_learner
from pipeline.train.loop import Step, train_epoch
from pipeline.train.steps import entered, paces_of
from pipeline.tuning.apart import batches_of, endless
from pipeline.tuning.laps import Laps
from pipeline.tuning.report import write_timeline
from pipeline.tuning.threads import in_turn
from pipeline.tuning.verdict import Facts, Operator

WARM_UP = AHEAD + 3
"""Steps: the first allocates and chooses kernels, and batches that were filled meanwhile come faster than others."""
SECONDS = 20.0
"""For which each of the three measurements lasts, at most, once it has taken `FEWEST` steps."""
FEWEST = 3
ALONE = 20
"""Steps of the network without input."""
SMALL = 4
"""A batch is compared with such a part of it: what both cost is there for any batch."""
WATCHED = 3
"""Steps whose operators are listed."""
LISTED = 10
"""Operators that are kept."""


def profile(training: Training, steps: int, trace: Path | None, advance: Callable[[int], None]) -> Facts:
    """Measure a fresh training.

    Args:
        training: moved in place.
        steps: of the loop that are timed, at most.
        trace: file for the timeline of a few steps, as Chrome and Perfetto show it.
        advance: called after each step.
    """
    machine, options = training.machine, training.params
    phases, taken = _of_loop(training, steps, advance)
    save = _timed(lambda: training.checkpoints.save(machine, training.progress))
    input_alone = _of_input(training, steps, advance)
    with closing(endless(training)) as batches:
        batch = _own(next(batches))
    alone = _of_network(training, batch, advance)
    small = _first(batch, max(2, len(batch.targets) // SMALL))
    of_small = _of_network(training, small, advance)
    size, fewer = len(batch.targets), len(small.targets)
    each = (alone - of_small) / (size - fewer) if size > fewer else 0.0
    operators = _operators(training, batch, trace)
    turns = in_turn(training, advance)
    return Facts(
        device=machine.device.type,
        cores=cores(),
        images=size,
        available=len(training.train),
        steps=taken,
        phases={name: seconds / taken for name, seconds in phases.items()},
        input_alone=input_alone,
        network_alone=alone,
        fixed=min(alone, max(0.0, alone - each * size)),
        checkpoint=save,
        threads=turns,
        operators=operators[:LISTED],
        operating=sum(one.seconds for one in operators),
        params=options,
        arithmetic=machine.arithmetic._asdict(),
        size=training.policy.size,
        smaller=_smaller(training),
    )


def _smaller(training: Training) -> int:
    """Three quarters of the side of the pictures, if the network can be built for it; else 0."""
    side = training.policy.size * 3 // 4
    if side < SMALLEST:
        return 0
    try:
        build_learner(training.params, training.member.dataset, training.policy.model_copy(update={"size": side}))
    except UserError:
        return 0
    return side


def _of_loop(training: Training, steps: int, advance: Callable[[int], None]) -> tuple[dict[str, float], int]:
    """Seconds of each phase over so many steps, and how many these were."""
    laps = Laps(training.machine.device)
    progress, epochs = training.progress, itertools.cycle(range(training.params.train.epochs))
    counter = _Counter(steps, advance, laps)
    entered(training)  # where only the head learns, it takes the place of the network that is listened to
    with laps.listening(training):
        while not counter.enough:
            progress.epoch, progress.step = next(epochs), 0
            with closing(_steps(training, laps)) as taken:
                keep_track(training, counter.of(taken), [])
    return laps.seconds(), counter.timed


class _Counter:
    """Says when enough steps are timed."""

    def __init__(self, steps: int, advance: Callable[[int], None], laps: Laps) -> None:
        self.timed, self.enough = -WARM_UP, False
        self._steps, self._advance, self._laps, self._began = steps, advance, laps, 0.0

    def of(self, steps: Iterable[Step]) -> Iterator[Step]:
        """The steps, until there are enough."""
        for step in steps:
            self.timed += 1
            self._advance(1)
            if self.timed == 0:
                self._laps.clear()
                self._began = time.perf_counter()
            yield step
            late = self.timed >= FEWEST and time.perf_counter() - self._began > SECONDS
            self.enough = self.timed >= self._steps or late
            if self.enough:
                return


def _steps(training: Training, laps: Laps) -> Generator[Step]:
    """Those of the epoch where the training stands; without validation at its end."""
    way = entered(training)
    with closing(laps.around(batches_of(training, way))) as batches:
        yield from train_epoch(training.machine, batches, way.paces)


def _of_input(training: Training, steps: int, advance: Callable[[int], None]) -> float:
    """Seconds of a batch where nobody learns from it."""
    began, count = 0.0, 0
    with closing(endless(training)) as batches:
        for count, _ in enumerate(islice(batches, WARM_UP + steps)):
            advance(1)
            if count + 1 == WARM_UP:
                began = time.perf_counter()
            elif count >= WARM_UP + FEWEST and time.perf_counter() - began > SECONDS:
                break
    return (time.perf_counter() - began) / (count + 1 - WARM_UP)


def _of_network(training: Training, batch: Batch, advance: Callable[[int], None]) -> float:
    """Seconds of a step where batches lie ready, in the median."""
    machine = training.machine
    machine.learn()
    times: list[float] = []
    ends = time.perf_counter() + SECONDS
    for pace in paces_of(training.params, training.progress, ALONE):
        times.append(_timed(lambda: machine.step(batch, pace).item()))  # noqa: B023
        advance(1)
        if len(times) > FEWEST and time.perf_counter() > ends:
            break
    return statistics.median(times[1:])


def _operators(training: Training, batch: Batch, trace: Path | None) -> list[Operator]:
    """What torch itself says of a few steps: every operator, those that take longest first."""
    machine = training.machine
    cuda = machine.device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with _hushed(), watched(activities=kinds, acc_events=True) as watch:
        for pace in paces_of(training.params, training.progress, WATCHED):
            machine.step(batch, pace).item()
    if trace:
        write_timeline(watch, trace)
    found = [
        Operator(
            event.key,
            event.count / WATCHED,
            (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6 / WATCHED,
        )
        for event in watch.key_averages()
    ]
    return sorted(found, key=lambda one: -one.seconds)


def _own(batch: Batch) -> Batch:
    """A copy that the input path does not fill again."""
    return batch._replace(pictures=batch.pictures.clone(), targets=batch.targets.clone())


def _first(batch: Batch, count: int) -> Batch:
    views = None if batch.views is None else batch.views[:count]
    return Batch(batch.pictures[:count], batch.targets[:count], views)


@contextmanager
def _hushed() -> Iterator[None]:
    """Let torch's profiler keep what it prints about itself."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
