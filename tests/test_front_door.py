"""What `convoy` says and does where the machine, a signal or an address is not as usual."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from small_project import git

from flows import cli
from flows.isolated import _waited_for
from flows.schedule import branches
from flows.worker import serving
from flows.worker.serving import Worker
from pipeline.errors import UserError
from pipeline.registry import tracking
from pipeline.room import explained_database

FOREIGN = Path("/sys/kernel")
"""A folder in which nobody makes a file, not even root."""


@pytest.mark.skipif(not FOREIGN.is_dir(), reason="this system has no such folder")
def test_a_project_that_belongs_to_somebody_else_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    (tmp_path / ".convoy").symlink_to(FOREIGN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["convoy", "status"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(("Permission denied: ", "Read-only file system: ")) and str(tmp_path / ".convoy") in line
    assert line.endswith(". Give yourself the right to it, or work in a clone of your own.")


TRAPS = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
pathlib.Path("listens").touch()
time.sleep(3600)
"""


def test_a_polite_kill_reaches_the_run_in_a_tree_of_its_own(tmp_path: Path) -> None:
    def kill() -> None:
        while not (tmp_path / "listens").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=kill, daemon=True).start()
    assert _waited_for([sys.executable, "-c", TRAPS], tmp_path) == 7
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_database_that_is_read_only_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        with pytest.raises(sqlite3.OperationalError) as refused:
            database.execute("CREATE TABLE a (b)")
    words = str(explained_database(refused.value, path))
    assert words.startswith(f"{path}: attempt to write a readonly database. Nothing of it is lost: give yourself the")
    assert explained_database(sqlite3.OperationalError("no such table"), path) is None


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:s3cret@mlflow.example/x", "https://***@mlflow.example/x"),
        ("postgresql://me:s3@cret@db:5432/mlflow", "postgresql://***@db:5432/mlflow"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_an_address_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert tracking.shown(uri) == shown


def test_a_deployment_without_a_repository_is_told_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"^A deployment trains commits of a branch: `git init`"):
        branches.current(tmp_path)
    git(tmp_path, "init", "-q", "-b", "main")
    with pytest.raises(UserError, match=r"^--branch: there is no branch 'main' with a commit here"):
        branches.existing(tmp_path, "main")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^git is not installed; a deployment"):
        branches.current(tmp_path)


def test_a_worker_says_once_what_every_tick_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = iter([["a: no room"], ["a: no room", "b: due"], ["a: no room"], [], ["a: no room"]])
    monkeypatch.setattr(serving.scheduler, "tick", lambda *_: next(ticks))
    worker = Worker(tmp_path, "w", keep_up=False)
    for _ in range(5):
        worker._tick(None)  # type: ignore[arg-type]
    assert [line[21:] for line in capsys.readouterr().out.splitlines()] == ["a: no room", "b: due", "a: no room"]
