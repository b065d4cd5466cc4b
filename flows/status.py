"""`convoy status`: what runs, who is champion, and whether anything is to do."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flows.alone import holder
from flows.decisions import watch
from flows.records.terminal import day
from flows.run import up_to_date
from flows.servers.dashboards import running
from flows.worktrees import LOCK
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.journal import Row, current, read
from pipeline.params import Named
from pipeline.registry import attempts, champion
from pipeline.registry.cases import Case


def show(root: Path) -> None:
    """Print it."""
    name = load(Named).name
    table = Table.grid(padding=(0, 2))
    table.add_row("run", _run(root))
    table.add_row("champion", _champion(name))
    if waiting := watch.waiting_cases():
        table.add_row("waiting", "; ".join(map(_waiting, waiting)))
    servers = running(root)
    pages = ", ".join(f"{server.name} {server.url}" for server in servers.values())
    table.add_row("dashboards", pages or "down; `convoy up` starts them")
    Console(highlight=False, soft_wrap=True).print(table)


def _run(root: Path) -> str:
    if at_work := holder(LOCK):
        return f"at work ({at_work}){_training()}"
    try:
        if up_to_date(root):
            return "none; everything is up to date"
        if stopped := attempts.stopped_short():
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(stopped[-1].started / 1000))
            return f"none; the one of {when} was stopped, and `convoy run` goes on with it if nothing has changed"
        return "none; `convoy run` has something to do"
    except UserError as error:
        return f"none; {error}"


def _training() -> str:
    journal = current()
    rows: list[Row] = read(journal, 0)[0] if journal else []
    epochs = [row for row in rows if row.series == "epoch"]
    if not epochs:
        return ""
    values = ", ".join(f"{key.removeprefix('epoch/')} {value:.4g}" for key, value in epochs[-1].values.items())
    return f"; last training: {len(epochs)} epochs done, {values}"


def _waiting(case: Case) -> str:
    return f"{case.challenger.named} for a decision until {day(case.deadline)}"


def _champion(name: str) -> str:
    reigning = champion.current(name)
    if reigning is None:
        return f"{name} has none yet"
    try:
        reigning.bundle()
    except UserError as error:
        return f"{name} version {reigning.version.version}: {error}"
    return f"{name} version {reigning.version.version}, since {reigning.since}"
