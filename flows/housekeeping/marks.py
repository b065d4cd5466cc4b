"""`convoy keep`: a mark beside the record of a run that it is kept, whatever else becomes of it."""

from __future__ import annotations

from collections.abc import Iterable

from flows.records.finding import look_up
from flows.records.terminal import safe
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.registry import attempts
from pipeline.registry.glances import SHOWN

MARK = "keep"
"""Its name in the folder of the run."""
GOING = "going"
"""Beside it, once housekeeping has begun to free the run: then its MLflow run may be gone before its record."""


def keep(name: str, off: bool) -> None:
    """Mark the run that `name` means, or take the mark off; twice is once.

    Raises:
        UserError: there is no such run here.
    """
    run = look_up(name).id
    folder = attempts.folder(run)
    if not (folder / "attempt.json").exists():
        raise UserError(
            f"{safe(name)!r} is run {run[:SHOWN]}, which was made elsewhere: `convoy gc` frees nothing of it here."
        )
    if off:
        (folder / MARK).unlink(missing_ok=True)
        print(f"Run {run[:SHOWN]} is no longer kept for its own sake; `convoy gc` says whether anything needs it.")
        return
    write_text(folder / MARK, "")
    print(f"Run {run[:SHOWN]} is kept: `convoy gc` frees nothing of it. `convoy keep {run[:SHOWN]} --off` undoes that.")


def begin(runs: Iterable[str]) -> None:
    """Note of runs that they are being freed."""
    for run in runs:
        write_text(attempts.folder(run) / GOING, "")


def going(run: str) -> bool:
    """Whether housekeeping has begun to free the run."""
    return (attempts.folder(run) / GOING).exists()


def marked(run: str) -> bool:
    """Whether a person wants the run kept."""
    return (attempts.folder(run) / MARK).exists()
