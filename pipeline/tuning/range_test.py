"""The learning rate range test: a short training at ever larger rates, until the loss diverges."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from pipeline.train.assembly import Training
from pipeline.train.learner import counted
from pipeline.train.machine import Pace
from pipeline.tuning.apart import endless
from pipeline.tuning.rates import Point, Watch, growing


def range_test(training: Training, low: float, high: float, steps: int, advance: Callable[[int], None]) -> list[Point]:
    """The loss of each step, before it is learnt from, up to where it diverges.

    Args:
        training: moved in place; its optimizer, network, loss, mixing and precision are those of params.
        low: rate of the first step.
        high: rate of the last one.
        steps: at most.
        advance: called after each.
    """
    machine, seed, watch = training.machine, training.params.seed, Watch()
    points: list[Point] = []
    with closing(endless(training)) as batches:
        for number, rate in enumerate(growing(low, high, steps)):
            pace = Pace(rate, None, number, counted(seed, "step", 0, number))
            loss = machine.step(next(batches), pace).item()
            points.append(Point(rate, loss))
            advance(1)
            if watch.diverged(loss):
                break
    return points
