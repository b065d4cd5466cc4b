"""The runs that this project remembers, kept in memory between two looks: a view of 1,000 costs milliseconds.

A folder's time changes whenever a file in it is replaced, so a look costs one `stat` per run. Runs that have not
finished are asked again whether somebody works on them: that is a lock, not a file.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dashboard import judged
from pipeline.files import shared
from pipeline.registry import attempts, glances
from pipeline.registry.attempts import Attempt
from pipeline.registry.glances import Glance
from pipeline.registry.ledger import MOVES

YOUNG = 1e9
"""Nanoseconds: what was written so lately may be written again within the same tick of the file system's clock."""


class Known(NamedTuple):
    """One run as it was last read."""

    stamp: int
    """Time of its folder."""
    glance: Glance
    attempt: Attempt | None
    """Of one that has not finished."""
    text: str
    """What a search looks at."""


class Reign(NamedTuple):
    """Who is and was champion of one model."""

    digest: str
    """Of the champion; empty if there is none."""
    version: str
    former: frozenset[str]
    """Digests of those that were."""


_known: dict[str, Known] = {}
_lock = threading.Lock()


def everything() -> Sequence[Known]:
    """Every run, finished or not, newest first."""
    with _lock:
        _refresh()
        found = [_now(one) for one in _known.values()]
    return sorted(found, key=lambda one: (one.glance.started, one.glance.id), reverse=True)


def reigns() -> dict[str, Reign]:
    """By model, from the ledger alone."""
    found: dict[str, Reign] = {}
    for entry in judged.entries():
        if entry.action in MOVES:
            before = found.get(entry.model, Reign("", "", frozenset()))
            former = (before.former | {before.digest}) - {entry.model_digest, ""}
            found[entry.model] = Reign(entry.model_digest, entry.to_version, former)
    return found


def makers(runs: Sequence[Known], reigns: dict[str, Reign]) -> dict[str, str]:
    """Run -> `champion` or `former`, for those that made such a model: the first with its digest."""
    marks: dict[str, str] = {}
    made: set[tuple[str, str]] = set()
    for run in reversed(runs):
        glance = run.glance
        key = glance.model, glance.digest
        if not glance.digest or key in made or glance.model not in reigns:
            continue
        made.add(key)
        if glance.digest == reigns[glance.model].digest:
            marks[glance.id] = "champion"
        elif glance.digest in reigns[glance.model].former:
            marks[glance.id] = "former"
    return marks


def _refresh() -> None:
    young = time.time_ns() - YOUNG
    seen = set()
    try:
        folders = list(os.scandir(shared() / "runs"))
    except FileNotFoundError:
        folders = []
    for folder in folders:
        try:
            stamp = folder.stat().st_mtime_ns
        except FileNotFoundError:
            continue
        seen.add(folder.name)
        old = _known.get(folder.name)
        if old is None or old.stamp != stamp or stamp > young:
            if new := _read(Path(folder.path), stamp):
                _known[folder.name] = new
            else:
                seen.discard(folder.name)
    for gone in _known.keys() - seen:
        del _known[gone]


def _read(folder: Path, stamp: int) -> Known | None:
    glance = glances.read(folder)
    if glance is None:
        return None
    return _of(stamp, glance, None if glance.state == "finished" else attempts.read(folder.name))


def _of(stamp: int, glance: Glance, attempt: Attempt | None) -> Known:
    named = (
        glance.id,
        glance.experiment,
        glance.reason,
        glance.model,
        glance.trigger,
        glance.mlflow_run,
        glance.flow_run,
    )
    params = (f"{key}={value}" for key, value in glance.params.items())
    return Known(stamp, glance, attempt, "\n".join([*named, *params]).lower())


def _now(one: Known) -> Known:
    if one.attempt is None:
        return one
    working = attempts.at_work(one.attempt)
    state = "working" if working else "stopped"
    return one if one.glance.state == state else one._replace(glance=one.glance.model_copy(update={"state": state}))
