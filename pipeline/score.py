"""A bundle's answers and how fast they come, from a fresh process: files are judged, not what is in memory."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.bundle import Bundle
from pipeline.dataset import Dataset, Split
from pipeline.devices import set_up
from pipeline.errors import UserError
from pipeline.packed import packed
from pipeline.params import ComputeOptions

if TYPE_CHECKING:
    import torch

GOLDEN = 16
"""Encoded pictures that go the way of serving."""
WARM_UP = 5
TIMED = 20
"""Answers that are timed at least."""
SECONDS = 0.4
"""For which answers are timed, if that gives more of them."""
PORTION = 256


class Killed(UserError):
    """The process was ended from outside; trying again may help."""


@dataclass(frozen=True)
class Told:
    """What a bundle's files say, and how fast."""

    probabilities: np.ndarray
    """Of every test image in the order of their ids, from the packed pictures: float64 [N, K]."""
    golden: np.ndarray
    """Of the first of them, as serving decodes and answers them: float64 [at most 16, K]."""
    milliseconds: float
    """From one encoded picture to its answer, the median."""
    timed: int
    """Answers behind that."""
    device: str


def ask(bundle: Path, compute: ComputeOptions) -> Told:
    """What the bundle in the folder `bundle` says of the test split.

    Args:
        bundle: whose answers.
        compute: where, and with how many threads.

    Raises:
        Killed: the process was ended by a signal.
        UserError: it failed; with its last words.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "told.npz"
        command = [sys.executable, "-m", "pipeline.score", str(bundle), compute.device, str(compute.threads), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
        if done.returncode < 0:
            raise Killed(f"The process that asks the model in {bundle} was ended by {_signal(-done.returncode)}.")
        if done.returncode:
            words = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise UserError(f"The model in {bundle} gives no answers: {words[0]}")
        with np.load(out, allow_pickle=False) as found:
            return Told(
                probabilities=found["probabilities"],
                golden=found["golden"],
                milliseconds=float(found["milliseconds"]),
                timed=int(found["timed"]),
                device=str(found["device"]),
            )


def _signal(number: int) -> str:
    hint = " (the system kills so when memory runs out)" if number == signal.SIGKILL else ""
    return f"signal {signal.Signals(number).name}{hint}"


def main(folder: str, device: str, threads: str, out: str) -> None:
    """Write what one bundle says to the file `out`."""
    where = set_up(device, int(threads))
    bundle = Bundle.open(Path(folder))
    test = Dataset.open().split("test")
    first = [test.read(position) for position in range(min(GOLDEN, len(test)))]

    def serve(encoded: Sequence[bytes]) -> np.ndarray:
        return bundle.task.probabilities(bundle.outputs(np.stack([bundle.prepare(data) for data in encoded]), where))

    told = of_split(bundle, test, where, serve)
    milliseconds, timed = _timed(serve, first)
    np.savez(
        out,
        probabilities=told,
        golden=serve(first),
        milliseconds=milliseconds,
        timed=timed,
        device=np.array(str(where)),
    )


def of_split(
    bundle: Bundle, test: Split, where: torch.device, serve: Callable[[Sequence[bytes]], np.ndarray]
) -> np.ndarray:
    """The answers to every image of a split: float64 [N, K].

    Args:
        bundle: that answers.
        test: the split.
        where: to compute.
        serve: from encoded pictures to probabilities. A model that learnt from grey pictures while these have colour,
            or the other way round, sees them as it would in use.
    """
    if bundle.info.channels == test.dataset.info.channels:
        return bundle.task.probabilities(bundle.outputs(packed(test, bundle.info.packed), where))
    portions = [range(start, min(start + PORTION, len(test))) for start in range(0, len(test), PORTION)]
    return np.concatenate([serve([test.read(position) for position in portion]) for portion in portions])


def _timed(serve: Callable[[Sequence[bytes]], np.ndarray], pictures: Sequence[bytes]) -> tuple[float, int]:
    """The median time of an answer to one picture, in milliseconds, and over how many."""
    for turn in range(WARM_UP):
        serve([pictures[turn % len(pictures)]])
    spent: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(spent) < TIMED or time.perf_counter() < until:
        start = time.perf_counter()
        serve([pictures[len(spent) % len(pictures)]])
        spent.append(time.perf_counter() - start)
    return 1000 * statistics.median(spent), len(spent)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
