"""Everybody is told of a decision: MLflow, Prefect, the DVC remote, people. `python -m flows.decisions.settle`.

The ledger has it already; whoever is away hears of it at the next try, and nobody hears of it twice. MLflow's aliases
are brought in line with the ledger on the way, whatever set them.
"""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows import announce, settings
from flows.decisions import suspension
from flows.servers.prefect_rest import AWAY, wired
from pipeline.door import PARAMS, load
from pipeline.errors import UserError
from pipeline.failpoints import Point, passing
from pipeline.files import shared, write_json
from pipeline.params import Told
from pipeline.registry import cases, champion, ledger
from pipeline.registry.cases import Standing

if TYPE_CHECKING:
    from mlflow import MlflowClient


def settle(project: Path, everything: bool = False) -> list[str]:
    """Tell whoever is to be told; a line for each who could not be.

    Args:
        project: its root, which is the current folder.
        everything: bring the alias of every model in line, not only of those that are known to have moved.
    """
    decided = _decided()
    models = {standing.case.challenger.name for standing in decided} | set(cases.pending_models())
    if everything:
        models |= {entry.model for entry in ledger.history()}
    if not models:
        return []
    with _alone():
        problems = _aliases(models)
        decided = _decided()  # another process may have told it meanwhile
        for standing in decided:
            problems += _Settling(project, standing).run()
    return problems


def needed() -> bool:
    """Whether anybody is to be told; a look at one folder."""
    return bool(cases.pending_models() or _decided())


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

    def __init__(self, project: Path, standing: Standing) -> None:
        assert standing.decision is not None
        self._project, self._case, self._decision = project, standing.case, standing.decision
        self._file = cases.folder(self._case.id) / "settled.json"
        self._done: list[str] = _read(self._file)

    def run(self) -> list[str]:
        """Every step that is not done; what could not be done, in words."""
        steps: dict[str, Callable[[], None]] = {
            "mlflow": self._tell_mlflow,
            "prefect": self._tell_prefect,
            "remote": self._publish,
            "people": self._tell_people,
        }
        problems = [problem for name, step in steps.items() if (problem := self._do(name, step))]
        if not problems:
            cases.unmark(self._case.id)
        return problems

    def _do(self, name: str, step: Callable[[], None]) -> str:
        if name in self._done:
            return ""
        try:
            step()
        except (UserError, *AWAY) as away:
            return f"{name} is told of case {self._case.id} later: {' '.join(str(away).split())[:300]}"
        self._done.append(name)
        write_json(self._file, self._done)
        return ""

    def _tell_mlflow(self) -> None:
        from mlflow.exceptions import MlflowException

        from pipeline.registry import attempts, tracking

        client = tracking.connect()
        version = self._case.challenger
        entry = self._decision
        tags = {"decision": entry.action, "decision.by": f"{entry.who} ({entry.via})", "decision.why": entry.why}
        tags["decision.when"] = entry.when
        attempt = attempts.read(self._case.run)
        with tracking.reaching(tracking.address()):
            _tagged(client, attempt.run if attempt else "", tags)
            passing(Point.RUN_TOLD)
            try:
                for key, value in tags.items():
                    client.set_model_version_tag(version.name, version.version, key, value)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # a version that was removed by hand
                    raise
        passing(Point.VERSION_TOLD)

    def _tell_prefect(self) -> None:
        if self._case.flow_run:
            with wired(self._project) as wire:
                if wire is None:
                    raise UserError("no Prefect server is up; `convoy up` starts it.")
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


def _tagged(client: MlflowClient, run: str, tags: dict[str, str]) -> None:
    from mlflow.exceptions import MlflowException

    try:
        for key, value in tags.items() if run else ():
            client.set_tag(run, key, value)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # a run that was removed by hand
            raise


def _read(file: Path) -> list[str]:
    try:
        found = json.loads(file.read_bytes())
        return [str(name) for name in found]
    except (OSError, ValueError, TypeError):
        return []


@contextmanager
def _alone() -> Iterator[None]:
    """Two at once would notify twice."""
    path = shared() / "settle.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    root = settings.enter_project()
    for line in settle(root, everything=True):
        print(line, file=sys.stderr)
