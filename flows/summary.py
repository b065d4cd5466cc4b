"""What a run came to, in a few lines."""

from __future__ import annotations

import json
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows.records.terminal import day, plain
from flows.result import Result
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.files import in_worktree
from pipeline.params import Named
from pipeline.registry import attempts, cases
from pipeline.registry.attempts import Finished
from pipeline.registry.cases import Standing
from pipeline.wording import images_said, spread_said, written

EVALUATION = Path("out/evaluation")
TITLES = {"promote": "better", "hold": "held back", "reject": "rejected"}


def show(result: Result) -> None:
    """Print score, version, verdict and where to look."""
    finished, name = result.finished, load(Named).name
    standing = _standing(finished)
    reigns = finished.champion or (standing is not None and standing.state == "promoted")
    place = "is the champion" if reigns else f"is not the champion: {TITLES[finished.outcome]}"
    rows = [
        ("run", finished.id[:8]),
        ("score", _score(finished)),
        ("model", f"{name} version {finished.version} {place}"),
        ("why", "\n".join(finished.reasons[:2])),
    ]
    if standing and standing.state == "waiting":
        version = standing.case.challenger.named
        until = f"for a decision until {day(standing.case.deadline)}: on the page that `convoy up` starts, or by"
        rows += [("waits", until), ("", f"convoy promote {version} --why ... or convoy reject {version} --why ...")]
    if result.experiment:
        rows.append(("home", f"git and DVC keep it as {result.experiment}: `dvc exp apply` or `dvc exp branch`"))
    elif not in_worktree():
        rows.append(("report", str(EVALUATION / "report.html")))
    command = "convoy" if os.environ.get("VIRTUAL_ENV") else ".venv/bin/convoy"
    rows.append(("look", f"{command} up   starts the review page, Prefect and MLflow"))
    table = Table.grid(padding=(0, 2))
    for title, said in rows:
        table.add_row(title, plain(said))  # names in it are those of the data, and no markup
    console = Console(highlight=False)
    console.print()
    if not result.new:
        which = f"run {finished.id[:8]}" if in_worktree() else "the last run"
        console.print(f"Nothing to do: data, params and code are those of {which}.", style="bold")
    console.print(table)


def _standing(finished: Finished) -> Standing | None:
    """The case that the gate opened about it, as it stands now."""
    attempt = attempts.read(finished.id)
    try:
        return cases.standing(attempt.case) if attempt and attempt.case else None
    except UserError:  # removed by hand
        return None


def _score(finished: Finished) -> str:
    """From the record: a run that was found to be done already has left nothing in its tree."""
    record = json.loads((attempts.folder(finished.id) / attempts.RECORD).read_bytes())
    name, scores = record["params"]["task"]["score"], record["scores"]
    value, spread = written(scores[name]["value"]), spread_said(scores, name)
    return f"{name.replace('_', ' ')} {value} on {images_said(scores)} ({spread})"
