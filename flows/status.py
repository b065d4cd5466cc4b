"""`convoy status`: what runs, who is champion, and whether anything is to do."""

from __future__ import annotations

from pathlib import Path

from flows import live, tables
from flows.alone import holder
from flows.decisions import watch
from flows.records.terminal import day, grid, plain
from flows.run import up_to_date
from flows.servers.dashboards import running
from flows.worktrees import LOCK
from pipeline.door import load
from pipeline.errors import UserError
from pipeline.journal import current
from pipeline.params import Named
from pipeline.registry import attempts, champion
from pipeline.registry.cases import Case
from pipeline.registry.glances import SHOWN
from pipeline.wording import short


def show(root: Path) -> None:
    """Print it."""
    name = load(Named).name
    rows = {"run": _run(root), "champion": _champion(name)}
    if waiting := watch.waiting_cases():
        rows["waiting"] = "; ".join(map(_waiting, waiting))
    servers = running(root)
    pages = ", ".join(f"{server.name} {server.url}" for server in servers.values())
    rows["dashboards"] = pages or "down; `convoy up` starts them"
    tables.console().print(grid((name, plain(value)) for name, value in rows.items()))


def _run(root: Path) -> str:
    if at_work := holder(LOCK):
        return f"at work ({at_work}){_training()}"
    try:
        if up_to_date(root):
            return "none; everything is up to date"
        return _stopped() or "none; `convoy run` has something to do"
    except UserError as error:
        return f"none; {error}"


def _stopped() -> str:
    """The run that stopped short last; one that was mistaken only as long as none came after it."""
    found = attempts.stopped_short()
    if found and found[-1].mistake and found[-1].started == attempts.read_all()[-1].started:
        why, run = (found[-1].error.strip() or "it does not say why").splitlines()[0], found[-1].id[:SHOWN]
        when = day(found[-1].started)
        return f"none; the one of {when} stopped short: {why}\n`convoy show {run}` says what to change"
    if going_on := [one for one in found if not one.mistake]:
        when = day(going_on[-1].started)
        return f"none; the one of {when} was stopped, and `convoy run` goes on with it if nothing has changed"
    return ""


def _training() -> str:
    """How far the run is whose training was the last to begin in this tree."""
    home = current()
    found = [one.id for one in attempts.read_all() if home and one.training == home.name and attempts.at_work(one)]
    told = live.progress(found[0]) if found else None
    if told is None or not told.stage:
        return ""
    if told.stage != "train":
        return f"; {told.stage}"
    latest = ", ".join(f"{name} {short(value)}" for name, value in told.latest.items())
    return f"; train: {told.training}" + (f"; epoch {told.epoch} came to {latest}" if latest else "")


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
