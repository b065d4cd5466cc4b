"""What must stay: the runs that somebody may still ask for, and the data that is named anywhere.

Nothing here reads or deletes. In doubt a thing is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.registry.glances import Glance

DAY = 86_400
IDLE_DAYS = 7
"""So long a run that stopped short may go on, and a cache that nobody uses stays."""
MD5 = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{32}(?:\.dir)?(?![0-9A-Za-z])")

REGISTERED = "with a registered model"
IN_LEDGER = "whose model was champion"
KEPT = "kept by `convoy keep`"
WORKING = "at work"
MAY_GO_ON = "stopped short that may go on"
NEWEST = "among the newest of their model"
ELSEWHERE = "whose MLflow run is in no store that is known here"


@dataclass(frozen=True)
class Registered:
    """A model version in MLflow, in whatever stage."""

    run: str
    """The MLflow run that it names; it may name none."""
    model_id: str
    """Of the logged model behind it."""
    digest: str
    """Of the model's files; empty for a version that is not ours."""


@dataclass(frozen=True)
class Facts:
    """What decides on the runs, beside themselves."""

    registered: Sequence[Registered]
    ledger: frozenset[str]
    """Digests of all models that the ledger names."""
    kept: frozenset[str]
    """Ids of the runs that a person has marked."""
    touched: dict[str, float]
    """When a run that has not finished last came further, in seconds since 1970."""
    elsewhere: frozenset[str]
    """Ids of the runs whose MLflow runs cannot be found, so that nobody knows what is registered of them."""
    newest: int
    """Finished runs of each model that stay, whatever became of them."""
    now: float
    """Seconds since 1970."""


def reasons(runs: Sequence[Glance], facts: Facts) -> dict[str, str]:
    """Why each run that is needed is needed, by its id; a run that is not among them may be freed."""
    newest = _newest(runs, facts.newest)
    found = {run.id: _reason(run, facts) or (NEWEST if run.id in newest else "") for run in runs}
    return {run: reason for run, reason in found.items() if reason}


def named(text: str) -> set[str]:
    """Every md5 in a `dvc.lock`, a `.dvc` file, or the listing of a folder.

    It is recognised wherever it stands: a file with conflict markers, or of a later schema, still keeps its data.
    """
    return set(MD5.findall(text))


def models(known: Iterable[tuple[str, str]], runs: Sequence[Glance], facts: Facts) -> set[str]:
    """The ids of the logged models that are needed.

    Args:
        known: id and digest of each logged model.
        runs: those that are needed; their models are.
        facts: as for `reasons`.
    """
    ids = {version.model_id for version in facts.registered}
    digests = {version.digest for version in facts.registered} | facts.ledger | {run.digest for run in runs}
    return {model for model, digest in known if model in ids or (digest and digest in digests)}


def training(touched: float, runs: Sequence[Glance], needed: Iterable[str], now: float) -> bool:
    """Whether the checkpoints of a training that nobody works on may still be gone back to.

    They are of no use once the run that trained has finished, or when nobody has touched them for `IDLE_DAYS`. No
    record says which run trained what, so a run that may go on keeps all that was touched since it began.

    Args:
        touched: when the last checkpoint was written, in seconds since 1970.
        runs: all that are known.
        needed: ids of those that are needed.
        now: seconds since 1970.
    """
    may_go_on = {run.id for run in runs if run.state != "finished"} & set(needed)
    if any(run.started / 1000 <= touched for run in runs if run.id in may_go_on):
        return True
    done = any(run.started / 1000 <= touched <= run.ended / 1000 for run in runs if run.state == "finished")
    return not done and now - touched < IDLE_DAYS * DAY


def _reason(run: Glance, facts: Facts) -> str:
    if run.state == "working":
        return WORKING
    if any(_made(run, version) for version in facts.registered):
        return REGISTERED
    if run.digest in facts.ledger:
        return IN_LEDGER
    if run.id in facts.kept:
        return KEPT
    if run.state == "stopped" and facts.now - facts.touched.get(run.id, facts.now) < IDLE_DAYS * DAY:
        return MAY_GO_ON
    return ELSEWHERE if run.id in facts.elsewhere else ""


def _made(run: Glance, version: Registered) -> bool:
    """A later run that came to the very same model made it as well."""
    by_run = bool(run.mlflow_run) and run.mlflow_run == version.run
    return by_run or (bool(run.digest) and run.digest == version.digest)


def _newest(runs: Sequence[Glance], count: int) -> set[str]:
    of_model: dict[str, list[str]] = {}
    for run in sorted((run for run in runs if run.state == "finished"), key=lambda run: run.ended, reverse=True):
        of_model.setdefault(run.model, []).append(run.id)
    return {run for ids in of_model.values() for run in ids[:count]}
