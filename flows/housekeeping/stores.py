"""MLflow: what is registered, and the runs and logged models that nobody needs.

In the project's own SQLite store they really go, rows and files. On a team's server only what runs of this project made
is deleted, through its API; the files stay until `mlflow gc` is run there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from flows.housekeeping.group import Group, remove, size
from pipeline.files import shared
from pipeline.registry import needed, tracking
from pipeline.registry.glances import Glance
from pipeline.registry.needed import Facts, Registered

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities import Run as MlflowRun

PAGE = 100
"""Entries asked for at once."""


@dataclass(frozen=True)
class Store:
    """One MLflow store."""

    uri: str
    client: MlflowClient
    ours: bool
    """Whether it is the project's own, with its files beside it."""


def opened() -> list[Store]:
    """The store that is in use, and the project's own one if another is in use now.

    Raises:
        UserError: one does not answer; then nobody knows what is registered.
    """
    own = f"sqlite:///{(shared() / tracking.DATABASE).absolute()}"
    there = (shared() / tracking.DATABASE).exists()
    in_use = tracking.address()
    found = [Store(in_use, tracking.connect(), in_use == own)] if there or in_use != own else []
    if there and in_use != own:
        from mlflow import MlflowClient

        found.append(Store(own, MlflowClient(own), ours=True))
    return found


def registered(store: Store) -> list[Registered]:
    """Every model version in the registry."""
    with tracking.reaching(store.uri):
        return [
            Registered(
                run=version.run_id or "",
                model_id=version.model_id or str(version.source).removeprefix("models:/"),
                digest=(version.tags or {}).get("model.digest", ""),
            )
            for version in _pages(lambda token: store.client.search_model_versions(max_results=PAGE, page_token=token))
        ]


def locks_of(store: Store, runs: Collection[str]) -> Iterator[str]:
    """The `dvc.lock` of MLflow runs whose record is not here, from their artifacts, as far as they have one."""
    with tracking.reaching(store.uri):
        for run in runs:
            if (found := _get(store, run)) is None:
                continue
            if any(file.path == "dvc.lock" for file in store.client.list_artifacts(run)):
                from mlflow.artifacts import load_text

                yield load_text(f"{found.info.artifact_uri}/dvc.lock")


def has(store: Store, run: str) -> bool:
    """Whether the store has this MLflow run, be it marked as deleted."""
    with tracking.reaching(store.uri):
        return _get(store, run) is not None


def groups(store: Store, going: Sequence[Glance], staying: Sequence[Glance], facts: Facts) -> list[Group]:
    """The MLflow runs and logged models that nobody needs; freed once, they are marked as deleted.

    Args:
        store: where.
        going: the project's runs that nobody needs.
        staying: those that are needed.
        facts: what decided on them.
    """
    with tracking.reaching(store.uri):
        names = {run.model for run in (*going, *staying)}
        where = [one.experiment_id for one in _experiments(store) if one.name in names]
        runs = [run for one in going if one.mlflow_run and (run := _get(store, one.mlflow_run))]
        runs += [run for run in _deleted(store, where) if _ours(run) not in {one.id for one in (*going, *staying)}]
        of_runs = {run.info.run_id for run in runs} - {version.run for version in facts.registered}
        known = {model.model_id: model for model in _models(store, where)}
        digests = [(model.model_id, model.tags.get("model.digest", "")) for model in known.values()]
        kept = needed.models(digests, staying, facts)
        models = [model for model in known.values() if model.source_run_id in of_runs and model.model_id not in kept]
    runs = [run for run in runs if run.info.run_id in of_runs]
    return [_of_models(store, models), _of_runs(store, runs)]


def _of_models(store: Store, models: Sequence[LoggedModel]) -> Group:
    places = {model.model_id: _local(store, model.artifact_location) for model in models}

    def free() -> None:
        with tracking.reaching(store.uri):
            for model, place in places.items():
                # Files first: MLflow lists no model that is marked as deleted, so nobody would find them again.
                _remove(place.parent if place and place.name == "artifacts" else place)
                store.client.delete_logged_model(model)
                _purge(store, methodcaller("_hard_delete_logged_model", model))

    return Group(
        "logged models in MLflow",
        _why(store),
        list(places),
        sum(size(place) for place in places.values() if place),
        free,
    )


def _of_runs(store: Store, runs: Sequence[MlflowRun]) -> Group:
    places = {run.info.run_id: _local(store, run.info.artifact_uri) for run in runs}

    def free() -> None:
        with tracking.reaching(store.uri):
            for run, place in places.items():
                if (found := _get(store, run)) and found.info.lifecycle_stage == "active":
                    store.client.delete_run(run)
                _remove(place.parent if place and place.parent.name == run else place)
                if store.ours and found:
                    _purge(store, methodcaller("_hard_delete_run", run))

    return Group("MLflow runs", _why(store), list(places), sum(size(place) for place in places.values() if place), free)


def _why(store: Store) -> str:
    return (
        "of runs that go" if store.ours else f"of runs that go; only marked as deleted on {tracking.shown(store.uri)}"
    )


def _purge(store: Store, delete: Callable[[Any], None]) -> None:
    """Delete the rows for good, as `mlflow gc` does; the command itself would take deleted experiments along."""
    if store.ours:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        rows = SqlAlchemyStore(store.uri, (shared() / tracking.ARTIFACTS).absolute().as_uri())  # type: ignore[no-untyped-call]
        try:
            delete(rows)
        finally:
            rows.engine.dispose()


def _local(store: Store, uri: str) -> Path | None:
    """The folder of files that lie in the project's own store; nothing else on a disk is ours to delete."""
    where = urlparse(uri)
    home = (shared() / tracking.ARTIFACTS).resolve()
    if not store.ours or where.scheme not in ("", "file"):
        return None
    path = Path(unquote(where.path)).resolve()
    return path if path.is_relative_to(home) and path != home else None


def _remove(place: Path | None) -> None:
    if place:
        remove(place)


def _get(store: Store, run: str) -> MlflowRun | None:
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_run(run)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _deleted(store: Store, experiments: Sequence[str]) -> list[MlflowRun]:
    """Runs of ours that are marked as deleted, by a person or by a `convoy gc` that was interrupted."""
    from mlflow.entities import ViewType

    if not store.ours or not experiments:
        return []
    search = store.client.search_runs
    found = _pages(
        lambda token: search(list(experiments), run_view_type=ViewType.DELETED_ONLY, max_results=PAGE, page_token=token)
    )
    return [run for run in found if _ours(run)]


def _ours(run: MlflowRun) -> str:
    """The id of the run of this project that it records."""
    from pipeline.registry.record import ATTEMPT

    return str(run.data.tags.get(ATTEMPT, ""))


def _experiments(store: Store) -> list[Any]:
    from mlflow.entities import ViewType

    search = store.client.search_experiments
    return _pages(lambda token: search(view_type=ViewType.ALL, max_results=PAGE, page_token=token))


def _models(store: Store, experiments: Sequence[str]) -> list[LoggedModel]:
    if not experiments:
        return []
    search = store.client.search_logged_models
    return _pages(lambda token: search(list(experiments), max_results=PAGE, page_token=token))


def _pages(ask: Callable[[str | None], Any]) -> list[Any]:
    found: list[Any] = []
    token: str | None = None
    while True:
        page = ask(token)
        found += page
        token = page.token
        if not token:
            return found
