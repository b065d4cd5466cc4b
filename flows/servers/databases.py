"""Prefect's and MLflow's databases, made once: their migrations take longer than a short run."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from flows import settings
from flows.servers.processes import last_lines, start
from pipeline.errors import UserError
from pipeline.files import STATE


def missing(root: Path) -> list[str]:
    """Which of the project's own databases are wanted and not there."""
    variables = {**os.environ, **settings.environment(root)}
    wanted = {"prefect.db": "PREFECT_API_DATABASE_CONNECTION_URL", "mlflow.db": "MLFLOW_TRACKING_URI"}
    return [
        database
        for database, variable in wanted.items()
        if variables[variable].endswith(f":///{root / STATE / database}") and not (root / STATE / database).exists()
    ]


def prepare(root: Path, say: Callable[[str], None] = print) -> None:
    """Make the databases that are missing, side by side.

    Each is made under another name and moved into place whole, so that a kill leaves no half-made one.

    Raises:
        UserError: one could not be made.
    """
    state = root / STATE
    state.mkdir(parents=True, exist_ok=True)
    with (state / "prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        todo = missing(root)
        if not todo:
            return
        say("Prepare the databases of Prefect and MLflow, once (some 15 s) ...")
        variables = {**os.environ, **settings.environment(root)}
        half_made = state / ".prefect.db.tmp"
        half_made.unlink(missing_ok=True)
        jobs = {
            "prefect.db": (
                ["-m", "prefect", "server", "database", "upgrade", "-y"],
                {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{half_made}"},
            ),
            # The registry's own way in makes the file, as a run would.
            "mlflow.db": (["-c", "from pipeline.registry import tracking; tracking.connect()"], {}),
        }
        logs = {name: state / "logs" / f"prepare-{name}.log" for name in todo}
        processes = {name: start(jobs[name][0], variables | jobs[name][1], root, logs[name])[0] for name in todo}
        failed = [name for name, process in processes.items() if process.wait() != 0]
        if failed:
            raise UserError("\n".join(f"{name} could not be made. {last_lines(logs[name])}" for name in failed))
        if "prefect.db" in todo:
            with closing(sqlite3.connect(half_made)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it in the one file that is moved
            half_made.replace(state / "prefect.db")
