"""What can be seen of a run: how far it is, its curves, what it says. By hand, and in a real run that is killed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_project import convoy, environment, make, make_pictures

from flows import jobs, live, logs
from flows.curves import POINTS, Course, course
from pipeline.files import write_json
from pipeline.journal import Journal, trainings
from pipeline.progress import LOG, write_log
from pipeline.registry import attempts
from pipeline.registry.attempts import Attempt, Finished, Work

RUN = "a" * 32
TRAINING = "b" * 32
FLOW = "0a1b2c3d-0000-4000-8000-000000000001"
SECOND = 1000


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    return tmp_path


@pytest.fixture
def work(project: Path) -> Work:  # noqa: ARG001
    """A run at work in this process, which trains three epochs of four steps."""
    params = {"name": "digits", "train": {"epochs": 3}}
    attempt = Attempt(id=RUN, key="key", model="digits", started=1, flow_run=FLOW, params=params)
    lock = attempts._try_lock("key")
    assert lock
    return Work(attempt, lock)


def note(journal: Journal, epoch: int, steps: int = 4, score: float = 0.5) -> None:
    for step in range(steps):
        journal.append("step", epoch * 4 + step, {"train/loss": 1 / (1 + epoch * 4 + step), "train/learning_rate": 0.1})
    if steps == 4:
        values = {"epoch/train_loss": 0.3, "epoch/val_loss": 0.4, "epoch/val_accuracy": score}
        journal.append("epoch", epoch, {**values, "epoch/images_per_second": 900.0})
    journal.flush()


def test_how_far_a_run_is(work: Work) -> None:
    work.at("ingest")
    assert live.progress(RUN) == live.Progress(run=RUN, state="working", stage="ingest", seconds={}, epochs=3)
    work.stage_ran("ingest", 1.5)
    work.at("train")
    journal = Journal(trainings() / TRAINING)
    note(journal, 0, steps=2)
    work.trains(TRAINING)
    told = live.progress(RUN)
    assert told
    assert (told.stage, told.seconds, told.epoch, told.step, told.steps) == ("train", {"ingest": 1.5}, 0, 2, 0)
    assert told.losses == [(1, 1.0), (2, 0.5)]
    assert told.eta is None
    note(journal, 0)  # of which two steps are noted already
    note(journal, 1, steps=1)
    told = live.progress(RUN)
    assert told
    assert (told.epoch, told.epochs, told.step, told.steps) == (1, 3, 5, 12)
    work.stopped("no room", told=False)
    work.release()
    told = live.progress(RUN)
    assert told
    assert (told.state, told.stage, told.error, told.eta) == ("stopped", "train", "no room", None)
    work.finish("", Finished(id=RUN, run="", version="1", outcome="hold", champion=False, reasons=[]))
    told = live.progress(RUN)
    assert told
    assert (told.state, told.stage) == ("finished", "")


def test_curves_grow_with_the_journal_and_hold_only_numbers(work: Work) -> None:
    assert live.curves(RUN) == live.Curves()
    work.trains(TRAINING)
    journal = Journal(trainings() / TRAINING)
    note(journal, 0)
    first = live.curves(RUN)
    assert first.epochs == {"train_loss": [(1, 0.3)], "val_loss": [(1, 0.4)], "val_accuracy": [(1, 0.5)]}
    assert first.steps["learning_rate"] == [(1, 0.1), (2, 0.1), (3, 0.1), (4, 0.1)]
    note(journal, 1, score=math.nan)
    journal.append("step", 8, {"train/loss": math.inf, "train/learning_rate": 0.2})
    note(journal, 2, score=0.75)
    then = live.curves(RUN)
    assert then.epochs["val_accuracy"] == [(1, 0.5), (3, 0.75)]
    assert [step for step, _ in then.steps["loss"]] == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]
    assert "images_per_second" not in then.epochs
    journal.close()
    (trainings() / TRAINING / "journal.jsonl").unlink()  # the training starts over, in the same folder
    time.sleep(0.002)
    note(Journal(trainings() / TRAINING), 0)
    assert live.curves(RUN) == first


def test_a_long_curve_is_drawn_with_few_points(work: Work) -> None:
    work.trains(TRAINING)
    journal = Journal(trainings() / TRAINING)
    for step in range(10_007):
        journal.append("step", step, {"train/loss": float(step % 2), "train/learning_rate": step / 10_007})
    journal.close()
    start = time.perf_counter()
    found = live.curves(RUN).steps
    assert time.perf_counter() - start < 2
    assert len(found["loss"]) <= POINTS
    assert found["loss"][-1][0] == 10_007
    size = found["loss"][0][0]
    assert found["learning_rate"][0] == (size, pytest.approx((size - 1) / 2 / 10_007))
    start = time.perf_counter()
    live.progress(RUN)
    assert time.perf_counter() - start < 0.1  # what was read is not read again


def timed(folder: Path, ends: list[float], now: float) -> Course:
    """A training that began at 0 and whose epochs ended so many seconds later, looked at the moment `now`."""
    rows = [(0.0, "step", 0, {"train/loss": 1.0})]
    rows += [(end, "epoch", number, {"epoch/val_loss": 1.0}) for number, end in enumerate(ends)]
    lines = [
        json.dumps({"time": int((now + end) * SECOND), "series": series, "step": step, "values": values})
        for end, series, step, values in rows
    ]
    path = folder / TRAINING / "journal.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    found = course(TRAINING)
    assert found
    return found


@pytest.mark.parametrize(
    ("ends", "now", "left"),
    [
        ([], 5, None),  # nobody knows how long an epoch takes
        ([10], 10, 90),
        ([10, 20, 30], 34, 66),
        ([10, 20, 30], 45, 60),  # this one takes longer than usual
        ([10, 20, 30], 66, None),  # it stands still
        ([10, 20, 30, 3630, 3640, 3650], 3650, 40),  # it was stopped for an hour in between
        ([10, 12, 14, 16, 18, 20], 20, 8),  # the first one was slow
        ([10] * 10, 10, 0),
    ],
)
def test_when_training_ends_is_told_where_it_can_be(
    project: Path, ends: list[float], now: float, left: float | None
) -> None:
    begun = 1_000_000.0 + len(ends) * 7 + now  # another head of the journal each time
    found = timed(project / ".convoy/train", ends, begun)
    assert found.seconds_left(10, begun + now) == (left if left is None else pytest.approx(left))
    assert found.seconds_left(0, begun + now) is None


def test_what_a_run_says(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    assert live.log_tail(RUN, 0) == ("", 0)
    monkeypatch.setenv(LOG, str(logs.path(FLOW)))
    write_log("begins")
    assert live.log_tail(FLOW, 0)[0].endswith("  begins\n")  # its run is not known yet
    work.at("ingest")
    text, end = live.log_tail(RUN, 0)
    write_log("goes on")
    assert text.endswith("  begins\n")
    assert live.log_tail(RUN, end)[0].endswith("  goes on\n")


@pytest.mark.parametrize("name", ["../../etc", "", "c" * 32, "A" * 32, "/etc/passwd", f"../runs/{RUN}", "{}"])
def test_what_is_no_run_shows_nothing(work: Work, name: str) -> None:
    work.at("train")
    assert live.progress(name) is None
    assert live.curves(name) == live.Curves()
    assert live.log_tail(name, 0) == ("", 0)


def test_damage_shows_nothing_and_breaks_nothing(work: Work) -> None:
    work.trains("../../outside")
    assert live.curves(RUN) == live.Curves()
    work.trains(TRAINING)
    assert live.curves(RUN) == live.Curves()
    path = trainings() / TRAINING / "journal.jsonl"
    for text in ("not json\n", "[]\n", '{"time": 1}\n', '{"time": 1, "series": "x", "step": 1, "values": {"a": 1}}\n'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        told = live.progress(RUN)
        assert told and told.stage == ""
        assert live.curves(RUN) == live.Curves()


def test_an_attempt_of_older_code_still_loads(project: Path) -> None:  # noqa: ARG001
    old = {"id": RUN, "key": "k", "model": "digits", "started": 1, "run": "m", "seconds": {"ingest": 1.0}}
    write_json(attempts.folder(RUN) / "attempt.json", old)
    told = live.progress(RUN)
    assert told == live.Progress(run=RUN, state="stopped", stage="", seconds={"ingest": 1.0})


def test_looking_is_cheap_to_import() -> None:
    heavy = "torch mlflow prefect dvc scipy pandas pyarrow numpy sklearn"
    code = f"import sys, flows.live, flows.jobs; print([one for one in '{heavy}'.split() if one in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def until(condition: Callable[[], object], patience: float = 150.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


EPOCHS = 150


@pytest.mark.slow
def test_a_run_in_a_tree_of_its_own_is_watched_killed_and_run_again_by_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make(tmp_path / "project", make_pictures(tmp_path / "pictures"))
    monkeypatch.chdir(project)
    command = [sys.executable, "-m", "flows.cli", "run", "--isolated", "--set", f"train.epochs={EPOCHS}"]
    with (tmp_path / "terminal").open("w") as terminal:
        first = subprocess.Popen(
            command, cwd=project, env=environment(), stdout=terminal, stderr=terminal, start_new_session=True
        )
    until(attempts.read_all)
    (run,) = (attempt.id for attempt in attempts.read_all())

    def now() -> live.Progress:
        found = live.progress(run)
        assert found
        return found

    until(lambda: now().epoch > 3)
    told = now()
    assert (told.state, told.stage, told.epochs, told.steps) == ("working", "train", EPOCHS, EPOCHS)
    assert told.seconds.keys() == {"ingest", "augment"}
    assert told.eta is not None and 0 < told.eta < 600
    assert len(live.curves(run).epochs["val_accuracy"]) > 3
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    until(lambda: now().state == "stopped")
    (flow_run,) = {attempt.flow_run for attempt in attempts.read_all()}
    done = now().epoch

    job = jobs.start(project, ["rerun", run])
    until(lambda: (found := jobs.find(project, job.id)) and found.state != "working")
    ended = jobs.find(project, job.id)
    assert ended and ended.state == "done", jobs.log_tail(project, job.id, 0)[0]
    assert f"Run {run[:8]} again: commit" in jobs.log_tail(project, job.id, 0)[0]
    told = now()
    assert (told.state, told.resumed, told.stage) == ("finished", 1, "")
    assert [epoch for epoch, _ in live.curves(run).epochs["val_loss"]][-1] == EPOCHS
    attempt = attempts.read(run)
    assert attempt and attempt.flow_run != flow_run
    assert not logs.path(flow_run).exists()
    text = live.log_tail(run, 0)[0]
    assert text.count("The run begins, in process") == 2
    assert "train: goes on from epoch" in text
    assert text.splitlines()[-1].endswith("The run has ended: shades version 1, promote.")
    for stage in ("ingest: ", "augment: ", "train: ran, ", "evaluate: ran, "):
        assert f"  {stage}" in text
    assert text.count(f"epoch {done:>3}/{EPOCHS} ") <= 2  # once more, if the kill came before its checkpoint

    assert f"Nothing to do: data, params and code are those of run {run[:8]}." in convoy(project, "rerun", run[:8])
    assert len(attempts.read_all()) == 1
