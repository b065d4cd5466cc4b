"""What every command needs that measures a training: its data prepared, and its tree and device to itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from flows.alone import alone
from flows.housekeeping.turns import run_at_work
from flows.run import device_of, polite_kill
from flows.stage import Graph
from flows.worktrees import LOCK
from pipeline import __main__ as stages
from pipeline.door import load
from pipeline.files import DATASET
from pipeline.interrupts import EXIT_CODE
from pipeline.params import Params

PREPARING = (DATASET, Path("out/policy"))
"""Outputs that a training starts from."""


@contextmanager
def measuring(root: Path) -> Iterator[Params]:
    """The params of the project in `root`, which is the current folder, once dataset and policy are up to date.

    Inside, no run is at work in this tree or on this device, and no stage that outlived one; they wait for each other.

    Raises:
        UserError: a mistake in the params, the data or the machine.
    """
    try:
        with run_at_work(), alone(LOCK, _wait_for):
            params = load(Params)
            from pipeline.devices import identity, pick

            with device_of(identity(pick(params.compute.device))), polite_kill():
                graph = Graph(root)
                for output in PREPARING:
                    graph.run(graph.maker(output))
                with stages.alone():
                    yield params
    except KeyboardInterrupt:
        print("Stopped; params, model and checkpoints are as they were.", file=sys.stderr)
        raise typer.Exit(EXIT_CODE) from None


def _wait_for(holder: str) -> None:
    print(f"A run is at work here ({holder}); this waits for it. Ctrl-C gives up.", flush=True)
