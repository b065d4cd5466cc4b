"""Everybody is told of a decision: MLflow, Prefect, the DVC remote, people. `python -m flows.decisions.settle`.

The ledger has it already; whoever is away hears of it at the next try, and nobody hears of it twice. MLflow's aliases
are brought in line with the ledger on the way, whatever set them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from flows import announce, settings
from flows.alone import alone
from flows.decisions import suspension
from flows.servers.prefect_rest import AWAY, wired
from pipeline.door import PARAMS, load
from pipeline.errors import UserError
from pipeline.failpoints import Point, passing
from pipeline.files import shared, write_json
from pipeline.params import Told
from pipeline.registry import cases, champion, ledger
from pipeline.registry.cases import Standing

MLFLOW, PREFECT, REMOTE, PEOPLE = "mlflow", "prefect", "remote", "people"
"""Who is told, in this order."""


class NotUp(UserError):
    """No Prefect server is up, which is no trouble: the next one that is hears of it."""


def settle(project: Path, everything: bool = False) -> list[str]:
    """Tell whoever is to be told; a line for each who could not be.

    Args:
        project: its root, which is the current folder.
        everything: bring the alias of every model in line, not only of those that are known to have moved.
    """
    decided = _decided()
    untold = {one.case.challenger.name for one in decided if MLFLOW not in _told(one)}
    models = untold | set(cases.pending_models())
    if everything:
        models |= {entry.model for entry in ledger.history()}
    if not models and not decided:
        return []
    with _turn():
        problems = _aliases(models) if models else []
        for standing in _decided():  # another process may have told of some meanwhile
            problems += _Settling(project, standing).run()
    return problems


def tell_prefect(project: Path, api: str) -> None:
    """Tell the Prefect server at `api` alone what it lacks: one of a run lives shortly."""
    with _turn():
        for standing in _decided():
            _Settling(project, standing, api).run((PREFECT,))


def needed() -> bool:
    """Whether anybody is to be told; a look at one folder."""
    return bool(cases.pending_models() or _decided())


def prefect_lacks() -> bool:
    """Whether Prefect is to be told."""
    return any(PREFECT not in _told(standing) for standing in _decided())


def _decided() -> list[Standing]:
    return [standing for name in cases.pending() if (standing := _of(name)) and standing.decision]


def _aliases(models: set[str]) -> list[str]:
    from pipeline.registry import tracking

    try:
        client = tracking.connect()
        for model in sorted(models):
            with tracking.reaching(tracking.address()):
                champion.reconcile(client, model)
            cases.unmark(model=model)
    except UserError as away:
        return [f"MLflow's alias follows later. {away}"]
    return []


class _Settling:
    """One case, told step by step; what is done is kept, so that a kill or an absence repeats nothing."""

    def __init__(self, project: Path, standing: Standing, api: str | None = None) -> None:
        assert standing.decision is not None
        self._project, self._case, self._decision, self._api = project, standing.case, standing.decision, api
        self._done = _told(standing)

    def run(self, who: Sequence[str] = (MLFLOW, PREFECT, REMOTE, PEOPLE)) -> list[str]:
        """Every step that is not done; what could not be done, in words."""
        steps: dict[str, Callable[[], None]] = {
            MLFLOW: self._tell_mlflow,
            PREFECT: self._tell_prefect,
            REMOTE: self._publish,
            PEOPLE: self._tell_people,
        }
        problems = [problem for name in who if (problem := self._do(name, steps[name]))]
        if steps.keys() <= set(self._done):
            cases.unmark(self._case.id)
        return problems

    def _do(self, name: str, step: Callable[[], None]) -> str:
        if name in self._done:
            return ""
        try:
            step()
        except NotUp:
            return ""
        except (UserError, *AWAY) as away:
            return f"{name} is told of case {self._case.id} later: {' '.join(str(away).split())[:300]}"
        self._done.append(name)
        write_json(_file(self._case.id), self._done)
        return ""

    def _tell_mlflow(self) -> None:
        from pipeline.registry import attempts, tracking

        client = tracking.connect()
        version = self._case.challenger
        entry = self._decision
        tags = {"decision": entry.action, "decision.by": f"{entry.who} ({entry.via})", "decision.why": entry.why}
        tags["decision.when"] = entry.when
        attempt = attempts.read(self._case.run)
        run = attempt.run if attempt else ""
        with tracking.reaching(tracking.address()):
            with _unless_removed():
                for key, value in tags.items() if run else ():
                    client.set_tag(run, key, value)
            passing(Point.RUN_TOLD)
            with _unless_removed():
                for key, value in tags.items():
                    client.set_model_version_tag(version.name, version.version, key, value)
        passing(Point.VERSION_TOLD)

    def _tell_prefect(self) -> None:
        if self._case.flow_run:
            with wired(self._project, self._api) as wire:
                if wire is None:
                    raise NotUp
                suspension.end(wire, self._case, self._decision)
        passing(Point.PREFECT_TOLD)

    def _publish(self) -> None:
        from pipeline.registry import runs

        record = runs.read(self._case.run) if self._case.push and self._decision.action == "promote" else None
        if record:
            from flows.remote import published

            published.crown(self._project, record)

    def _tell_people(self) -> None:
        announce.decided(load(Told, self._project / PARAMS), self._case, self._decision)
        passing(Point.NOTIFIED)


def _of(case: str) -> Standing | None:
    try:
        return cases.standing(case)
    except UserError:  # it is being made, or was left half-made by a process that was killed
        return None


@contextmanager
def _unless_removed() -> Iterator[None]:
    """A run or a version that somebody has removed by hand is told nothing."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _file(case: str) -> Path:
    return cases.folder(case) / "settled.json"


def _told(standing: Standing) -> list[str]:
    """Who knows of the decision."""
    try:
        found = json.loads(_file(standing.case.id).read_bytes())
        return [str(name) for name in found]
    except (OSError, ValueError, TypeError):
        return []


def _turn() -> AbstractContextManager[None]:
    """Two at once would notify twice."""
    return alone(shared() / "settle.lock", lambda _: None)


if __name__ == "__main__":
    root = settings.enter_project()
    for line in settle(root, everything=True):
        print(line, file=sys.stderr)
