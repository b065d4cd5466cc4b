"""A bundle's answers and how fast they come, from a fresh process: files are judged, not what is in memory."""

from __future__ import annotations

import json
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
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.answering import Answers
from pipeline.bundle import Bundle
from pipeline.dataset import Dataset, Split
from pipeline.devices import set_up
from pipeline.errors import UserError
from pipeline.packed import packed, views
from pipeline.train_options import ComputeOptions

if TYPE_CHECKING:
    import torch

GOLDEN = 16
"""Encoded pictures that go the way of serving."""
WARM_UP = 5
TIMED = 20
"""Answers that are timed at least."""
SECONDS = 0.4
"""For which answers are timed, if that gives more of them."""
PORTION = 64
ANSWERS, GOLDEN_ANSWERS, NOTES = "answers.parquet", "golden.parquet", "notes.json"
"""Files by which the fresh process tells what it found."""


class Killed(UserError):
    """The process was ended from outside; trying again may help."""


@dataclass(frozen=True)
class Told:
    """What a bundle's files say, and how fast."""

    answers: Answers
    """To every test image in the order of their ids, from the packed pictures."""
    golden: Answers
    """To the first of them, at most 16, as serving decodes and answers them."""
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
        command = [sys.executable, "-m", "pipeline.score", str(bundle), compute.device, str(compute.threads), folder]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
        if done.returncode < 0:
            raise Killed(f"The process that asks the model in {bundle} was ended by {_signal(-done.returncode)}.")
        if done.returncode:
            words = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise UserError(f"The model in {bundle} gives no answers: {words[0]}")
        test, task = Dataset.open().split("test"), Bundle.open(bundle).task
        of_all, of_golden = (pq.read_table(Path(folder, name)) for name in (ANSWERS, GOLDEN_ANSWERS))
        notes = json.loads(Path(folder, NOTES).read_text())
        nothing = task.blind(test, test)  # of the right kind, beside the truth
        golden = nothing.at(range(min(GOLDEN, len(test))))
        return Told(answers=nothing.again(of_all), golden=golden.again(of_golden), **notes)


def _signal(number: int) -> str:
    hint = " (the system kills so when memory runs out)" if number == signal.SIGKILL else ""
    return f"signal {signal.Signals(number).name}{hint}"


def main(folder: str, device: str, threads: str, out: str) -> None:
    """Write what one bundle says into the folder `out`."""
    where = set_up(device, int(threads))
    bundle = Bundle.open(Path(folder))
    test = Dataset.open().split("test")
    few = test.at(range(min(GOLDEN, len(test))))
    first = [few.read(position) for position in range(len(few))]

    def serve(encoded: Sequence[bytes]) -> list[Any]:
        return bundle.answer([bundle.prepare(data) for data in encoded], where)

    told = of_split(bundle, test, where)
    milliseconds, timed = _timed(serve, first)
    for name, split, said in ((ANSWERS, test, told), (GOLDEN_ANSWERS, few, serve(first))):
        pq.write_table(pa.table(bundle.task.answers(split, said).columns()), Path(out, name))
    notes = {"milliseconds": milliseconds, "timed": timed, "device": str(where)}
    Path(out, NOTES).write_text(json.dumps(notes))


def of_split(bundle: Bundle, split: Split, where: torch.device) -> list[Any]:
    """What a bundle says of every image of a split, as its task reads it.

    Args:
        bundle: that answers. One that learnt from grey pictures while these have colour, or the other way round, sees
            them as it would in use.
        split: the images.
        where: to compute.
    """
    if bundle.info.channels == split.dataset.info.channels:
        frame, side = bundle.info.frame, bundle.info.packed
        return bundle.told(packed(split, frame, side), views(split, frame, side), where)
    told: list[Any] = []
    for start in range(0, len(split), PORTION):
        encoded = [split.read(position) for position in range(start, min(start + PORTION, len(split)))]
        told += bundle.answer([bundle.prepare(data) for data in encoded], where)
    return told


def _timed(serve: Callable[[Sequence[bytes]], object], pictures: Sequence[bytes]) -> tuple[float, int]:
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
