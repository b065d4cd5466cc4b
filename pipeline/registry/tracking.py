"""The way to MLflow: which store, made ready once, and how its failures are worded."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.files import shared
from pipeline.room import explained_database

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
"""Their names in the state that all trees of a project share."""

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # The client's own patience is four minutes a call; ours tries again by itself and loses nothing meanwhile.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
PATIENCE = "CONVOY_MLFLOW_PATIENCE"
"""Variable: the seconds, 60 by default, for which a run that has computed everything waits for a store that is away."""


class Away(UserError):
    """The store does not answer. What was computed is kept, and the next run sends it."""


def patience() -> float:
    """Seconds for a store that is away.

    Raises:
        UserError: the variable is no such number.
    """
    given = os.environ.get(PATIENCE, "60")
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"{PATIENCE}={given}: expected seconds, 0 or more. Set a number, or unset it for 60.")
    return seconds


def address() -> str:
    """The tracking URI: the usual variable, or a SQLite file of this project."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _ours()


def shown(uri: str) -> str:
    """A tracking URI as it may be printed and kept: without user and password."""
    return re.sub("//[^/]*@", "//***@", uri)


def connect() -> MlflowClient:
    """A client for the store; the project's own SQLite file is made where it is missing.

    Takes seconds, for imports and perhaps migrations: call it beside other work.

    Raises:
        UserError: the store does not answer, or was made by another version of MLflow.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow

    for chatty in ("mlflow.store.db.utils", "mlflow.store.model_registry", "mlflow.pyfunc", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)  # a courtesy: no words where it fails
    uri = address()
    with reaching(uri):
        if uri == _ours():
            _ready()
        mlflow.set_tracking_uri(uri)
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment `name`, made or restored if need be."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = (shared() / ARTIFACTS / name).absolute().as_uri() if address() == _ours() else None
        # The tag tells MLflow's page that this is training, not a chat; it asks otherwise.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        with contextlib.suppress(MlflowException):  # somebody else made it in between
            return str(client.create_experiment(name, location, tags))
        found = client.get_experiment_by_name(name)
        if found is None:
            raise UserError(
                f"MLflow at {shown(address())} makes no experiment named {name!r}; see the log of its server."
            )
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


@contextlib.contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Turn MLflow's failure into words.

    Raises:
        Away: it does not answer, or not as it should.
        UserError: whatever else MLflow raised inside.
    """
    import requests
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException) as error:  # the latter from its stores of files
        if words := _without_room(error, uri):
            raise Away(words) from error
        if "out-of-date database schema" in str(error):
            raise UserError(
                f"{shown(uri)} was made by another version of MLflow. Copy it, then: "
                f".venv/bin/mlflow db upgrade {shown(uri)}"
            ) from error
        raise Away(
            f"MLflow at {shown(uri)} does not answer: {reason(error)}\n"
            "Start its server, or unset MLFLOW_TRACKING_URI, and run again: the run goes on where it stopped."
        ) from error


def _without_room(error: BaseException, uri: str) -> str:
    """That the disk is full under MLflow's database, or that it is read-only, in words; else nothing."""
    told = "database or disk is full" in str(error)  # by a server
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, sqlite3.Error) and (full := explained_database(cause, Path(uri.partition("///")[2]))):
            return str(full)
        cause = cause.__cause__ or cause.__context__
    return f"No room to write what MLflow at {shown(uri)} keeps. Make room there and run again." if told else ""


def reason(error: Exception) -> str:
    """Why a call to MLflow failed, in a line."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if "Max retries exceeded" in text:  # of the four exceptions in one another, the innermost says it
        text = text.rpartition(": ")[2].rstrip("\"')")
    return text[:300]


def _ours() -> str:
    return f"sqlite:///{(shared() / DATABASE).absolute()}"


def _ready() -> None:
    """Make the SQLite file under another name and move it here whole, so that a kill leaves no half-made one."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    state = shared().absolute()
    state.mkdir(exist_ok=True)
    with (state / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (state / DATABASE).exists():
            return
        temporary = state / f".{DATABASE}.tmp"
        temporary.unlink(missing_ok=True)
        store = SqlAlchemyStore(f"sqlite:///{temporary}", (state / ARTIFACTS).as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()
        temporary.replace(state / DATABASE)
