"""With how many threads steps are computed fastest: the real loop, with one number of them after the other, in turn.

Steps of a small network are shared out among threads at a cost, and threads that vary pictures want cores too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import torch

from pipeline.host import cores
from pipeline.train.assembly import Training
from pipeline.train.batches import Batch
from pipeline.train.steps import paces_of
from pipeline.tuning.apart import endless

Turns = dict[int, list[float]]
"""Seconds of a step in each turn, by the number of threads, that of the training first."""
TURNS = 6
TURN = 0.2
"""Seconds that a turn takes, at least: one step before, and as many as there is time for."""
SECONDS = 20.0
"""For all turns together, at most, once there were `FEWEST` of them."""
FEWEST = 4
GAIN = 1.1
"""Times as fast: less is not worth other bits."""


def in_turn(training: Training, advance: Callable[[int], None]) -> Turns:
    """What steps take with other numbers of threads; nothing where that is no question: on a GPU, or in a compiled
    program, which has its number of threads built in.

    Args:
        training: moved in place.
        advance: called after each step.
    """
    machine, own = training.machine, torch.get_num_threads()
    turns: Turns = {count: [] for count in numbers(own, cores())}
    if machine.device.type != "cpu" or machine.arithmetic.execution == "compiled" or len(turns) == 1:
        return {}
    machine.learn()
    ends = time.perf_counter() + SECONDS
    try:
        with closing(endless(training)) as batches:
            while len(turns[own]) < FEWEST or (len(turns[own]) < TURNS and time.perf_counter() < ends):
                for count, seconds in turns.items():
                    torch.set_num_threads(count)
                    seconds.append(_turn(training, batches, advance))
    finally:
        torch.set_num_threads(own)
    return turns


def numbers(own: int, most: int) -> list[int]:
    """Those that are tried: the own one, and of the larger one of it and all cores the half, the quarter, ..."""
    halves = [max(own, most)]
    while halves[-1] > 1:
        halves.append(halves[-1] // 2)
    return [own, *(count for count in halves if count != own)]


def faster(turns: Turns) -> int | None:
    """The number of threads that is fastest, if it is so beyond noise: its slowest turn is faster than any of the own
    number, and it is so by much; else None. Of six turns that differ by chance, one race in 924 ends like that."""
    own = next(iter(turns.values()), [])
    gains = {
        count: statistics.median(own) / statistics.median(each) for count, each in turns.items() if max(each) < min(own)
    }
    best = max(gains, key=gains.__getitem__, default=None)
    return best if best is not None and gains[best] >= GAIN else None


def _turn(training: Training, batches: Iterator[Batch], advance: Callable[[int], None]) -> float:
    """Seconds of a step."""
    (pace,) = paces_of(training.params, training.progress, 1)

    def step() -> None:
        training.machine.step(next(batches), pace).item()
        advance(1)

    step()  # it finds other threads than the last one had
    count, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < TURN or not count:
        step()
        count += 1
    return spent / count
