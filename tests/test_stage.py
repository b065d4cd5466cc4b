"""What the flow says when DVC could not bring a stage up to date."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time

import psutil
import pytest
from dvc.exceptions import ReproductionError
from dvc.lock import LockError
from dvc.stage.exceptions import StageCmdFailedError

from flows import mending
from flows.run import polite_kill
from flows.stage import Died, Graph, Mistake, Stopped, _explained
from pipeline import __main__ as stages
from pipeline.asking import Killed, ask
from pipeline.errors import TemporaryFailure, UserError
from pipeline.train_options import ComputeOptions


def explained(cause: Exception) -> Exception:
    error = ReproductionError("failed to reproduce 'train'")
    error.__cause__ = cause
    return _explained("train", error)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (1, Mistake, "train: see the words above."),
        (69, TemporaryFailure, "train: see the words above."),
        (130, Stopped, "train: stopped. `convoy run` goes on."),
        (-2, Stopped, "train: stopped. `convoy run` goes on."),
        (
            -9,
            Died,
            "train: its process ended by signal SIGKILL (the system kills so when memory runs out).",
        ),
        (143, Died, "train: its process ended by signal SIGTERM."),
        (70, Died, "train: its process ended with status 70."),
    ],
)
def test_what_the_exit_status_means(status: int, kind: type[Exception], words: str) -> None:
    error = explained(StageCmdFailedError("python -m pipeline train", status))
    ending = " `convoy run` goes on from what is done." if kind is Died else ""
    assert (type(error), str(error)) == (kind, words + ending)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "[Errno 28] No space left on device: 'x'"),
        (LockError("'out' is busy, it is being blocked by:\n  (PID 7): dvc"), "'out' is busy, it is being blocked by"),
    ],
)
def test_what_dvc_wraps_is_told(cause: Exception, words: str) -> None:
    error = explained(cause)
    assert type(error) is UserError
    assert str(error).startswith(f"train: DVC says: {words}")


def test_a_full_disk_is_told_and_no_mistake(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)

    def full() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("the writer failed") from error

    monkeypatch.setattr(stages.interrupts, "listen", lambda: None)
    monkeypatch.setitem(stages.STAGES, "train", full)
    assert stages.main(["train"]) == 69
    words = "train: cannot write: No space left on device. Make room, then run again; nothing is lost.\n"
    assert capsys.readouterr().err == words


def test_a_flow_says_what_a_stage_has_to_say_of_a_mistake_and_the_stage_does_not(monkeypatch, tmp_path, capsys) -> None:
    def mistaken() -> None:
        raise UserError("train: diverged.\nLower the rate.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages.interrupts, "listen", lambda: None)
    monkeypatch.setitem(stages.STAGES, "train", mistaken)
    monkeypatch.setenv(stages.LAST_WORDS, str(tmp_path / "words"))
    assert stages.main(["train"]) == 1
    assert capsys.readouterr().err == ""
    assert (tmp_path / "words").read_text() == "train: diverged.\nLower the rate."
    (tmp_path / "a file").touch()
    monkeypatch.setenv(stages.LAST_WORDS, str(tmp_path / "a file" / "words"))
    assert stages.main(["train"]) == 1
    assert capsys.readouterr().err == "train: diverged.\nLower the rate.\n"  # it cannot be left: better here


def test_the_words_of_a_mistake_are_those_of_the_error_and_not_those_of_an_older_one(project) -> None:
    stage = "stages: {{copy: {{cmd: '{}', deps: [a], outs: [b]}}}}\n"
    (project / "dvc.yaml").write_text(stage.format('printf "%30000d" 7 > $CONVOY_LAST_WORDS; exit 1'))
    with pytest.raises(Mistake, match=r"^7$"):
        Graph(project).run("copy")
    (project / "dvc.yaml").write_text(
        stage.format('head -c 30000 /dev/zero | tr "\\\\0" x > $CONVOY_LAST_WORDS; exit 1')
    )
    with pytest.raises(Mistake, match=r"^x{19996} \.\.\.$"):
        Graph(project).run("copy")
    (project / ".convoy/stage.words").write_text("older")
    (project / "dvc.yaml").write_text(stage.format("exit 1"))
    with pytest.raises(Mistake, match=r"^copy: see the words above\.$"):
        Graph(project).run("copy")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """One stage that copies a file, run once."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    (tmp_path / "dvc.yaml").write_text("stages: {copy: {cmd: cp a b, deps: [a], outs: [b]}}\n")
    (tmp_path / ".convoy").mkdir()
    (tmp_path / "a").write_text("1")
    monkeypatch.chdir(tmp_path)
    assert Graph(tmp_path).run("copy").name == "copy"
    return tmp_path


SLOW_TO_BEGIN = """
import fcntl, os, pathlib, time
pathlib.Path("started").touch()
time.sleep(0.8)
lock = open(".convoy/stage.lock", "a+")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.truncate(0)
os.write(lock.fileno(), str(os.getpid()).encode())
time.sleep(3600)
pathlib.Path("b").touch()
"""


def test_a_stage_that_has_not_begun_when_the_run_is_told_to_stop_is_told_as_well(project) -> None:
    (project / "slow.py").write_text(SLOW_TO_BEGIN)
    (project / ".convoy/stage.lock").write_text(str(os.getpid()))  # of the stage before: it is not told
    (project / "dvc.yaml").write_text("stages: {copy: {cmd: python slow.py, deps: [a, slow.py], outs: [b]}}\n")

    def stop() -> None:
        while not (project / "started").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    with polite_kill():
        threading.Thread(target=stop, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            Graph(project).run("copy")
    begun = int((project / ".convoy/stage.lock").read_text())
    assert begun != os.getpid() and not psutil.pid_exists(begun)
    assert not (project / "b").exists()  # nobody waited for its end


def test_a_wrong_dvc_yaml_is_told_in_words(project) -> None:
    (project / "dvc.yaml").write_text("stages: {copy: {cmd: cp a b, deps: [a], outs: [b]}, copy: [}\n")
    with pytest.raises(UserError, match=r"^DVC cannot tell what has changed: .*dvc\.yaml"):
        Graph(project).changed()


def test_a_conflict_in_dvcs_lock_is_left_to_whoever_merges(project) -> None:
    (project / "a").write_text("2")
    Graph(project).run("copy")  # so a lock from before is kept
    text = (project / "dvc.lock").read_text()
    both = f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> other\n"
    (project / "dvc.lock").write_text(both)
    with pytest.raises(UserError, match=r"^dvc\.lock holds a merge's conflict\. Take one side, `git checkout --ours"):
        Graph(project)
    assert (project / "dvc.lock").read_text() == both


@pytest.mark.parametrize("left", ["", '{"out/x": {"read": [{"pid": 12'])
def test_a_table_of_locks_that_a_kill_cut_short_is_removed(project, left: str) -> None:
    (project / ".dvc/tmp/rwlock").write_text(left)
    assert Graph(project).changed() == {}
    (project / "a").write_text("2")
    Graph(project).run("copy")
    assert (project / "b").read_text() == "2"


def test_a_lock_that_a_kill_cut_short_anywhere_hinders_no_later_run(project, capsys) -> None:
    (project / "a").write_text("2")
    Graph(project).run("copy")
    after = (project / "dvc.lock").read_text()
    kept = (project / ".convoy/dvc.lock.before").read_text()
    assert "c4ca4238a0b923820dcc509a6f75849b" in kept  # of "1"
    told = 0
    for length in range(0, len(after), 7):
        (project / "dvc.lock").write_text(after[:length])
        (project / ".convoy/dvc.lock.before").write_text(kept)
        Graph(project).run("copy")
        assert (project / "dvc.lock").read_text() == after
        told += "dvc.lock was cut short by a kill; it is put back" in capsys.readouterr().out
    assert told > 10


def test_a_lock_of_dvc_that_is_whole_is_left_alone(project) -> None:
    (project / ".dvc/tmp/rwlock").write_text("{}")
    mending.mend(project)
    assert (project / ".dvc/tmp/rwlock").read_text() == "{}"


def test_a_process_that_is_killed_while_it_asks_a_model_may_be_tried_again(tmp_path, monkeypatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(Killed, match=r"was ended by signal SIGKILL \(the system kills so when memory runs out\)\.$"):
        ask(tmp_path, ComputeOptions.model_validate({}))
