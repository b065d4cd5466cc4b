"""What can be freed, and in which order: what refers to a thing goes before the thing.

So an interruption leaves things that nothing refers to, which the next `convoy gc` finds, and never a reference to
something that is gone. Never touched: the ledger, the sources of the data, working files, and the DVC remote.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flows import worktrees
from flows.housekeeping import cache, leftovers, references, stores
from flows.housekeeping.group import Group
from flows.housekeeping.marks import going as begun
from flows.housekeeping.marks import marked
from flows.housekeeping.stores import Store
from flows.repository import in_git
from pipeline.files import shared
from pipeline.registry import attempts, glances, needed, runs
from pipeline.registry.glances import Glance
from pipeline.registry.needed import Facts, Registered


@dataclass(frozen=True)
class Limits:
    """How much is to stay beyond what is needed for a reason."""

    newest: int
    """Finished runs of each model."""
    grace: float
    """Seconds; what was put into DVC's cache within them stays."""


@dataclass(frozen=True)
class Plan:
    """What can be freed."""

    groups: Sequence[Group]
    """In the order in which they are freed."""
    going: Sequence[str]
    """Ids of the runs that go."""
    pins: dict[str, str]
    """Runs that stay, and their commits that no branch holds."""
    kept: dict[str, int]
    """Why runs stay, and how many."""
    notes: Sequence[str]

    @property
    def bytes(self) -> int:
        """Of all groups."""
        return sum(group.bytes for group in self.groups)


def make(root: Path, limits: Limits) -> Plan:
    """Look at everything; nothing is changed.

    Args:
        root: the project, which is the current folder.
        limits: what else stays.

    Raises:
        UserError: git or MLflow cannot say what is needed.
    """
    known = glances.read_all()
    places = [(store, stores.registered(store)) for store in stores.opened()]
    facts = _facts(known, places, limits.newest)
    why = needed.reasons(known, facts)
    going = [run for run in known if run.id not in why]
    staying = [run for run in known if run.id in why]
    git = in_git(root)
    trees = [leftovers.trees(root)] if git else []
    data, notes = _data(root, staying, going, places, facts.now - limits.grace)
    groups = [
        leftovers.outcomes(going, why),
        *([references.group(root, {run.id for run in going})] if git else []),
        *(group for store, _ in places for group in stores.groups(store, going, staying, facts)),
        leftovers.records(going),
        *data,
        *trees,
        *leftovers.caches(known, list(why), facts.now),
    ]
    pins = references.unreachable(root, _commits(staying)) if git else {}
    kept = dict(Counter(why.values()))
    return Plan([group for group in groups if group.names], [run.id for run in going], pins, kept, notes)


def _facts(known: Sequence[Glance], places: Sequence[tuple[Store, Sequence[Registered]]], newest: int) -> Facts:
    facts = Facts(
        registered=[version for _, versions in places for version in versions],
        ledger=leftovers.ledger_digests(known),
        kept=frozenset(run.id for run in known if marked(run.id)),
        touched={run.id: _touched(run.id) for run in known if run.state == "stopped"},
        elsewhere=frozenset(),
        newest=newest,
        now=time.time(),
    )
    why = needed.reasons(known, facts)
    asked = [run for run in known if run.id not in why and run.mlflow_run and not begun(run.id)]
    lost = {run.id for run in asked if not any(stores.has(store, run.mlflow_run) for store, _ in places)}
    return replace(facts, elsewhere=frozenset(lost))


def _data(
    root: Path,
    staying: Sequence[Glance],
    going: Sequence[Glance],
    places: Sequence[tuple[Store, Sequence[Registered]]],
    newest: float,
) -> tuple[list[Group], list[str]]:
    """DVC's cache, by all that still names something in it."""
    repo = cache.opened(root)
    if repo is None:
        return [], []
    if cache.outside(repo, root):
        where = repo.cache.local.path
        return [], [f"DVC's cache {where} lies outside the project and may serve others: it is left alone."]
    return cache.groups(repo, _named(root, staying, going, places), newest), []


def _named(
    root: Path, staying: Sequence[Glance], going: Sequence[Glance], places: Sequence[tuple[Store, Sequence[Registered]]]
) -> set[str]:
    """Every md5 that must stay."""
    gone = {run.id for run in going}
    # Of every run that does not go, also of one that cannot be read: another version of this project may have made it.
    texts = [_record_text(place.name) for place in (shared() / "runs").glob("*") if place.name not in gone]
    here = {run.mlflow_run for run in staying}
    for store, versions in places:
        texts += stores.locks_of(store, {version.run for version in versions if version.run} - here)
    md5s = {md5 for text in texts for md5 in needed.named(text)}
    if not in_git(root):
        return md5s | references.working_tree(root)
    closed = [worktrees.folder(root, name) for name in worktrees.left(root)]
    return md5s | references.md5s(root, gone, closed)


def _record_text(run: str) -> str:
    """The record as it lies there, whatever its schema."""
    try:
        return (attempts.folder(run) / attempts.RECORD).read_text(encoding="utf-8", errors="replace")
    except (
        FileNotFoundError,
        NotADirectoryError,
    ):  # not finished: its tree names its data
        return ""


def _touched(run: str) -> float:
    try:
        return (attempts.folder(run) / "attempt.json").stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _commits(staying: Sequence[Glance]) -> dict[str, str]:
    return {run.id: record.code.commit for run in staying if (record := runs.read(run.id)) and record.code.commit}
