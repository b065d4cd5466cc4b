"""One batch size tried: a few steps of the real loop in a process of its own, which tells what they took.

The process is forked from one that has imported everything already. Too large a batch then ends that process and no
other, and no size finds the memory that an earlier one has left behind.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.params import TrainParams
from pipeline.policy import Policy
from pipeline.train.batches import AHEAD, steps_per_epoch
from pipeline.train.probe import CHOSEN
from pipeline.train.steps import paces_of
from pipeline.tuning.apart import TooLarge, apart, clear, endless
from pipeline.tuning.room import Gauge, free_memory, process_memory

WARM_UP = AHEAD + 1
"""Steps: the first allocates, and batches that were filled meanwhile come faster than others will."""
TIMED = 12
SECONDS = 4.0
"""For which steps are timed, at most, after two that are taken in any case."""
SHARE = 0.8
"""Of the memory that is free, at most, so that nothing is ever swapped or killed for it."""
GLANCE = 0.02
"""Seconds between looks at how much a trial has taken."""


class Trial(NamedTuple):
    """What a few steps took."""

    size: int
    peak: int
    """Bytes, at most at a time."""
    room: int
    """Bytes that were free before."""
    images_per_second: float
    seconds: float
    """A step."""
    views: int
    """Of the training split: what an epoch shows."""
    arithmetic: tuple[str, ...]
    """How steps were computed."""

    def steps(self, size: int = 0) -> int:
        """Of an epoch, with batches of this size, or of another."""
        return steps_per_epoch(self.views, size or self.size)


@dataclass(frozen=True)
class Subject:
    """What is tried."""

    params: TrainParams
    root: Path
    """Of the dataset."""
    policy: Policy
    arithmetic: tuple[str, ...] = ()
    """How to compute steps; empty: as a training of this batch size would choose."""


def attempt(subject: Subject, size: int) -> Trial:
    """Try one size.

    Raises:
        TooLarge: memory ran out, or came so near to its end that the trial was ended.
        UserError: it failed in another way.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "pipeline.transforms", "torch._dynamo"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, subject, size), daemon=True)
    limit = SHARE * free_memory()
    process.start()
    theirs.close()
    try:
        before = process_memory(process.pid or 0)
        while not ours.poll(GLANCE):
            if process_memory(process.pid or 0) - before > limit:
                raise _too_large(size)
        told = ours.recv()
    except EOFError:
        process.join()
        if process.exitcode == -signal.SIGKILL:  # the system's own way to end what takes too much
            raise _too_large(size) from None
        raise UserError(f"A batch of {size} cannot be tried: its process ended with {process.exitcode}.") from None
    finally:
        process.kill()
        process.join()
        clear()
    if isinstance(told, Trial):
        return told
    raise _too_large(size) if told is None else UserError(told)


def _too_large(size: int) -> TooLarge:
    return TooLarge(f"A batch of {size} does not fit into memory.")


def _child(answer: Connection, subject: Subject, size: int) -> None:
    """Send a `Trial`, None where memory ran out, or the words of a mistake."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    if subject.arithmetic:
        os.environ[CHOSEN] = " ".join(subject.arithmetic)
    try:
        answer.send(_tried(subject, size))
    except TooLarge:
        answer.send(None)
    except UserError as error:
        answer.send(str(error))


def _tried(subject: Subject, size: int) -> Trial:
    train = subject.params.train.model_copy(update={"batch_size": size})
    params = subject.params.model_copy(update={"train": train})
    gauge = Gauge(params.compute.device)
    with apart(params, Dataset.open(subject.root), subject.policy) as training:
        machine = training.machine
        times = [time.perf_counter()]
        with closing(endless(training)) as batches:
            for number, pace in enumerate(paces_of(params, training.progress, WARM_UP + TIMED)):
                machine.step(next(batches), pace).item()  # waits for the device
                times.append(time.perf_counter())
                if number and times[-1] - times[0] > SECONDS:
                    break
        steady = times[min(WARM_UP, len(times) - 2) :]
        seconds = statistics.median(after - before for before, after in pairwise(steady))
        views, arithmetic = len(training.train), tuple(machine.arithmetic)
        return Trial(size, gauge.peak(), gauge.room, size / seconds, seconds, views, arithmetic)
