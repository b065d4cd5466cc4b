"""`convoy profile`: where the time of a training step goes, and what to change."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import settings

if TYPE_CHECKING:
    from pipeline.tuning.verdict import Facts

PIPED = 120
"""Columns of what goes into a file or a pipe."""
LISTED = 8
"""Operators; profile.json has more."""


def profile(
    steps: Annotated[int, typer.Option(min=3, max=10_000, help="Of the training loop, that are timed.")] = 50,
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="A timeline of a few steps, for chrome://tracing.")
    ] = None,
) -> None:
    """Say where the time of a training step goes: input, copying, the network, the optimizer, notes, and what to do.

    The loop is the one that trains, for some seconds, with the params of params.yaml; nothing of it is kept but the
    numbers, in out/tuning/profile.json.
    """
    trace = trace and trace.absolute()  # typed relative to where the user stands
    root = settings.enter_project()
    from flows.measuring import measuring
    from pipeline.progress import track

    with measuring(root) as params:
        from pipeline.dataset import Dataset
        from pipeline.policy import Policy
        from pipeline.tuning.apart import apart
        from pipeline.tuning.profile import profile as measured
        from pipeline.tuning.report import write_profile

        with apart(params, Dataset.open(), Policy.open()) as training, track("profile") as advance:
            facts = measured(training, steps, trace, advance)
        write_profile(facts)
        show(facts)
        if trace:
            print(f"The timeline is in {trace}; chrome://tracing and ui.perfetto.dev show it.")


def show(facts: Facts) -> None:
    """Print the tables, the verdict and the advice."""
    from rich.console import Console

    from pipeline.tuning.verdict import advice, verdict

    width = None if sys.stdout.isatty() else PIPED
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)
    arithmetic = ", ".join(facts.arithmetic.values())
    console.print(f"{facts.steps} steps of {facts.images} pictures, {facts.size} px, on {facts.device}, {arithmetic}")
    rows = [(name, seconds, seconds / facts.step) for name, seconds in facts.phases.items()]
    console.print(_table("phase", "ms a step", [*rows, ("all", facts.step, 1.0)]))
    busy = sum(one.seconds for one in facts.operators)
    listed = [(one.name, one.seconds, one.seconds / busy if busy else 0.0) for one in facts.operators[:LISTED]]
    console.print(_table("operator of torch", "ms a step", listed))
    console.print(verdict(facts), soft_wrap=True)
    for one in advice(facts):
        console.print(f"  - {one}", soft_wrap=True)


def _table(name: str, unit: str, rows: list[tuple[str, float, float]]) -> object:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column(name)
    table.add_column(unit, justify="right")
    table.add_column("share", justify="right")
    for label, seconds, share in rows:
        table.add_row(Text(label), f"{1000 * seconds:.3f}", f"{share:.1%}")
    return table
