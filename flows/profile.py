"""`convoy profile`: where the time of a training step goes, and what to change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import settings
from flows.tables import console, table

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.tuning.verdict import Facts

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
    from pipeline.tuning.verdict import advice, verdict

    out = console()
    arithmetic = ", ".join(facts.arithmetic.values())
    out.print(f"{facts.steps} steps of {facts.images} pictures, {facts.size} px, on {facts.device}, {arithmetic}")
    rows = [(name, seconds, seconds / facts.step) for name, seconds in facts.phases.items()]
    out.print(_timed("phase", [*rows, ("all", facts.step, 1.0)]))
    busy = sum(one.seconds for one in facts.operators)
    listed = [(one.name, one.seconds, one.seconds / busy if busy else 0.0) for one in facts.operators[:LISTED]]
    out.print(_timed("operator of torch", listed))
    out.print(verdict(facts), soft_wrap=True)
    for one in advice(facts):
        out.print(f"  - {one}", soft_wrap=True)


def _timed(name: str, rows: list[tuple[str, float, float]]) -> Table:
    cells = [(label, f"{1000 * seconds:.3f}", f"{share:.1%}") for label, seconds, share in rows]
    return table((name, "ms a step", "share"), cells, right=(1, 2))
