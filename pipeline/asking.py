"""What a bundle's files say, from a fresh process, so that they are judged and not what is in memory.

Nothing here imports torch: only the process that is asked needs it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.answering import Answers
from pipeline.bundle import Bundle
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.train_options import ComputeOptions

GOLDEN = 16
"""Encoded pictures that go the way of serving."""
ANSWERS, GOLDEN_ANSWERS, NOTES = "answers.parquet", "golden.parquet", "notes.json"
"""Files by which `pipeline.score` tells what it found."""


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
