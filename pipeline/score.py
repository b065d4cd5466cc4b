"""A bundle's answers to the test split, from a fresh process: files are judged, not what is in somebody's memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pipeline.bundle import Bundle
from pipeline.dataset import Dataset
from pipeline.devices import set_up
from pipeline.errors import UserError
from pipeline.packed import packed
from pipeline.params import ComputeOptions


class Killed(UserError):
    """The process was ended from outside; trying again may help."""


def answers(bundle: Path, compute: ComputeOptions) -> np.ndarray:
    """Probabilities of the bundle in the folder `bundle` for every test image, in the order of their ids.

    Args:
        bundle: whose answers.
        compute: where, and with how many threads.

    Returns:
        float64 [N, K].

    Raises:
        Killed: the process was ended by a signal.
        UserError: it failed; with its last words.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answers.npy"
        command = [sys.executable, "-m", "pipeline.score", str(bundle), compute.device, str(compute.threads), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
        if done.returncode < 0:
            raise Killed(f"The process that asks the model in {bundle} was ended by {_signal(-done.returncode)}.")
        if done.returncode:
            words = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise UserError(f"The model in {bundle} gives no answers: {words[0]}")
        found: np.ndarray = np.load(out, allow_pickle=False)
        return found


def _signal(number: int) -> str:
    hint = " (the system kills so when memory runs out)" if number == signal.SIGKILL else ""
    return f"signal {signal.Signals(number).name}{hint}"


def main(folder: str, device: str, threads: str, out: str) -> None:
    """Write the answers of one bundle to the file `out`."""
    where = set_up(device, int(threads))
    bundle = Bundle.open(Path(folder))
    pictures = packed(Dataset.open().split("test"), bundle.info.packed)
    np.save(out, bundle.task.probabilities(bundle.outputs(pictures, where)))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
