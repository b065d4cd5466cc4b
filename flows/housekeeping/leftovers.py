"""What runs leave in `.convoy/` beside their records, and what of it nobody needs any more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from flows import logs, worktrees
from flows.alone import holder
from flows.edits import KEPT
from flows.housekeeping.group import Group, changed, of_paths, size
from flows.worker.flow_runs import HOME as FLOW_RUNS
from pipeline.files import shared
from pipeline.journal import trainings
from pipeline.registry import attempts, cases, champion, ledger, needed
from pipeline.registry.attempts import Finished
from pipeline.registry.glances import Glance
from pipeline.registry.needed import DAY, IDLE_DAYS
from pipeline.train.folders import LOCK

IDLE = f"unused for {IDLE_DAYS} days"


def outcomes(going: Sequence[Glance], staying: Iterable[str]) -> Group:
    """What would make a later run believe that there is nothing to do, and what names runs that are no more."""
    ids, mlflow_runs = {run.id for run in going}, {run.mlflow_run for run in going if run.mlflow_run}
    finished = [path for path in (shared() / "finished").glob("*.json") if _finished(path) in ids]
    computed = [path for path in (shared() / "computed").glob("*") if path.read_text().strip() in mlflow_runs]
    texts = {_params_text(run) for run in ids} - {_params_text(run) for run in staying} - {""}
    params = [path for path in KEPT.glob("*.yaml") if path.read_text(encoding="utf-8", errors="replace") in texts]
    return of_paths("notes of outcomes", "of runs that go", [*finished, *computed, *params])


def records(going: Sequence[Glance]) -> Group:
    """All that the project itself remembers of the runs."""
    return of_paths("records of runs", "nobody needs the runs", [attempts.folder(run.id) for run in going])


def trees(project: Path) -> Group:
    """Worktrees that nobody works in and that were left alone, by the rule of `flows.worktrees`."""
    names = worktrees.left(project)
    places = {name: worktrees.folder(project, name) for name in names}

    def free() -> None:
        for name in names:
            worktrees.close(project, name)

    why = f"left alone for {worktrees.KEPT_DAYS} days"
    return Group("worktrees", why, names, sum(map(size, places.values())), free)


def caches(known: Sequence[Glance], staying: Sequence[str], now: float) -> list[Group]:
    """Checkpoints, packed pictures, fetched champions, images of cases, locks and logs of flow runs.

    Args:
        known: all runs.
        staying: the ids of those that are needed.
        now: seconds since 1970.
    """
    folders = [path for path in trainings().glob("*") if path.is_dir() and holder(path / LOCK) is None]
    done = [path for path in folders if not needed.training(_checkpoint(path), known, staying, now)]
    packed = (shared() / "cache" / "packed").glob("*.npy")
    unused = [path for path in packed if now - path.stat().st_mtime > IDLE_DAYS * DAY]
    locks = [path for path in FLOW_RUNS.glob("*.lock") if not path.with_suffix(".json").exists()]
    idle = [path for path in locks if now - path.stat().st_mtime > DAY and holder(path) is None]
    return [
        of_paths("checkpoints", f"of finished runs, or {IDLE}", done),
        of_paths("packed pictures", IDLE, unused),
        of_paths("models fetched from MLflow", "neither the champion's nor the one's before", _fetched(known)),
        of_paths("images of cases", "decided, of runs that go", _images(staying)),
        of_paths("locks of flow runs", "the flow runs have ended", idle),
        of_paths("logs of flow runs", f"of runs that go, or {IDLE}", _logs(known, staying, now)),
    ]


def ledger_digests(known: Sequence[Glance]) -> frozenset[str]:
    """Of every model that the ledger names."""
    models = {run.model for run in known}
    return frozenset(entry.model_digest for model in models for entry in ledger.history(model))


def _fetched(known: Sequence[Glance]) -> list[Path]:
    """Files of models that runs of this project made; of any other nobody here knows whether it reigns."""
    reigning = {digest for model in {run.model for run in known} for digest in _in_reach(model)}
    reigning |= {one.case.challenger.digest for one in cases.standings() if one.answerable}
    digests = {run.digest for run in known if run.digest} | ledger_digests(known)
    return [path for digest in digests - reigning if (path := champion.fetched(digest)).exists()]


def _in_reach(model: str) -> list[str]:
    """Digests of the champion and of the one that a rollback takes, which must not need MLflow."""
    return list(dict.fromkeys(one.version.digest for one in reversed(champion.line(model))))[:2]


def _images(staying: Sequence[str]) -> list[Path]:
    """What both models answered to each test image; the verdict itself stays, for the ledger names it."""
    found = {one.case.id for one in cases.standings() if one.case.run not in staying and not one.answerable}
    paths = (cases.folder(case) / cases.IMAGES for case in found - set(cases.pending()))
    return [path for path in paths if path.exists()]


def _logs(known: Sequence[Glance], staying: Sequence[str], now: float) -> list[Path]:
    """Of runs that go, and old ones of flow runs of which no run is known: they failed before they knew their data."""
    stay = {run.flow_run for run in known if run.id in staying}
    going = {run.flow_run for run in known} - stay
    found = (shared() / logs.HOME).glob("*.log")
    named = {path: path.name.partition(".")[0] for path in found}
    return [
        path
        for path, flow_run in named.items()
        if flow_run in going or (flow_run not in stay and now - changed(path) > IDLE_DAYS * DAY)
    ]


def _checkpoint(folder: Path) -> float:
    """When the training last came further; taking its lock, and looking, leave that as it is."""
    return max((changed(path) for path in folder.iterdir() if path.name != LOCK), default=0.0)


def _finished(path: Path) -> str:
    try:
        return Finished.model_validate_json(path.read_bytes()).id
    except (OSError, ValueError):
        return ""


def _params_text(run: str) -> str:
    from pipeline.registry import runs

    record = runs.read(run)
    return record.params_text if record else ""
