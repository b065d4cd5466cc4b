"""Locks on a network disk, and between several users of a machine."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from pathlib import Path
from uuid import uuid4

import pytest

from flows.alone import alone, holder
from flows.housekeeping.turns import run_at_work
from flows.worker import flow_runs
from pipeline import __main__ as stages
from pipeline.files import opened_lock

flock = fcntl.flock


def as_on_nfs(file: object, how: int) -> None:
    """What Linux does with `flock` on NFS 4: a shared lock is for readers, one of its own for writers (EBADF)."""
    handle = file if isinstance(file, int) else file.fileno()  # type: ignore[attr-defined]
    mode = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE
    if (how & fcntl.LOCK_SH and mode == os.O_WRONLY) or (how & fcntl.LOCK_EX and mode == os.O_RDONLY):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    flock(handle, how)


def test_a_home_on_nfs_has_every_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fcntl.flock", as_on_nfs)
    flow_run = uuid4()
    with run_at_work(), alone(Path(".convoy/run.lock"), print), flow_runs.held(tmp_path, flow_run):
        assert (holder(Path(".convoy/run.lock")) or "").startswith(f"process {os.getpid()}, since ")
        assert flow_runs.lives(tmp_path, flow_run)
        with stages.alone():
            assert holder(Path(".convoy/stage.lock")) == str(os.getpid())
        with stages.beside():
            assert holder(Path(".convoy/stage.processes")) is None  # shared, as by every process of a stage
    assert not flow_runs.lives(tmp_path, flow_run)
    assert not flow_runs.lives(tmp_path, uuid4())


def test_a_full_disk_keeps_nobody_from_a_lock(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with alone(tmp_path / "run.lock", print):
            found = holder(tmp_path / "run.lock")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found == "another process"


@pytest.mark.parametrize(("folder", "lock"), [(0o755, 0o644), (0o2775, 0o664), (0o1777, 0o666), (0o700, 0o600)])
def test_who_can_write_in_a_folder_can_lock_in_it(tmp_path: Path, folder: int, lock: int) -> None:
    home = tmp_path / "locks"
    home.mkdir()
    home.chmod(folder)
    for _ in range(2):  # made, and found again
        with opened_lock(home / "cpu.lock") as opened:
            opened.write("x")
    assert (home / "cpu.lock").stat().st_mode & 0o777 == lock
    assert (home / "cpu.lock").read_text() == "xx"
