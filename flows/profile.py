"""`convoy profile`: where the time of a training step goes, and what to change."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from flows import settings
from flows.tables import console, table
from pipeline.errors import UserError

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
    numbers, in out/tuning/profile.json. On a processor it is also tried with fewer and with more threads.
    """
    trace = trace and trace.absolute()  # typed relative to where the user stands
    if trace:
        refuse_unwritable(trace)
    root = settings.enter_project()
    print(f"profile: trains some seconds, and times up to {steps:,} steps; no model is changed.", flush=True)
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


def refuse_unwritable(trace: Path) -> None:
    """Tell whether a timeline can be written, before what it shows is measured.

    Raises:
        UserError: it cannot.
    """
    try:
        if trace.is_dir():
            raise UserError(f"--trace {trace}: this is a folder. Name a file in it: --trace {trace / 'trace.json'}")
        if trace.exists() and not trace.is_file():
            raise UserError(f"--trace {trace}: this is neither a file nor a new name. Name another.")
        trace.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=trace.parent, prefix=f".{trace.name}."):
            pass
    except OSError as error:
        raise UserError(f"--trace {trace}: cannot be written: {error.strerror}.") from None


def show(facts: Facts) -> None:
    """Print the tables, the verdict and the advice."""
    from pipeline.tuning.verdict import advice, verdict

    out = console()
    arithmetic = ", ".join(facts.arithmetic.values())
    out.print(f"{facts.steps} steps of {facts.images} pictures, {facts.size} px, on {facts.device}, {arithmetic}")
    out.print(_timed("phase", "share of a step", [*facts.phases.items(), ("all", facts.step)]))
    listed = [(one.name, one.seconds) for one in facts.operators[:LISTED]]
    others = facts.operating - sum(seconds for _, seconds in listed)
    out.print(
        _timed("operator of torch", "share of operators", [*listed, ("others", others), ("all", facts.operating)])
    )
    if facts.threads:
        told = [f"{1000 * median(turns):.3f} ms with {count}" for count, turns in facts.threads.items()]
        out.print(f"a step of the loop, by threads: {', '.join(told)}", soft_wrap=True)
    out.print(verdict(facts), soft_wrap=True)
    for one in advice(facts):
        out.print(f"  - {one}", soft_wrap=True)


def _timed(name: str, share: str, rows: list[tuple[str, float]]) -> Table:
    """Rows of seconds, the last of which is all of them."""
    whole = rows[-1][1] or 1.0
    cells = [(label, f"{1000 * seconds:.3f}", f"{seconds / whole:.1%}") for label, seconds in rows]
    return table((name, "ms a step", share), cells, right=(1, 2))
