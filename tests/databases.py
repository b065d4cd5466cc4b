"""Prefect's and MLflow's databases, empty: their migrations take ten seconds, so all projects of a session get copies.

tests/test_servers.py and tests/test_flow.py make their own, as a user's first start does.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.files import STATE

HOME = "CONVOY_TESTS"
"""Variable, set in conftest.py: a folder that all workers of this session share."""
NAMES = ("prefect.db", "mlflow.db")
ROOT = Path(__file__).parents[1]


def made(name: str) -> Path:
    """One of them, never to be written to; whoever asks first makes them all."""
    home = Path(os.environ[HOME])
    with (home / "databases.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((home / STATE / name).exists() for name in NAMES):
            done = subprocess.run(
                [sys.executable, "-m", "flows.servers.dashboards", "prepare"],
                cwd=home,
                env=clean_environment() | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, done.stdout
    return home / STATE / name


def give(project: Path, *names: str) -> None:
    """Put those databases into a project; without names both."""
    (project / STATE).mkdir(parents=True, exist_ok=True)
    for name in names or NAMES:
        shutil.copyfile(made(name), project / STATE / name)


def clean_environment() -> dict[str, str]:
    """Of a user's shell: nothing of Prefect, MLflow or DVC is set."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_", "DVC_"))}
