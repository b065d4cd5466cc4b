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

from dashboard.views._live import live_of
from flows import jobs, live, logs, status
from flows.curves import POINTS, Course, Curves, _table, courses, seconds_left
from pipeline.files import write_json
from pipeline.journal import JOURNAL, ROLLBACK, Journal, folder_of, trainings
from pipeline.progress import LOG, write_log
from pipeline.registry import attempts, drain, glances
from pipeline.registry.attempts import Attempt, Finished, Work
from pipeline.train.outputs import write_notes

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
    assert (told.eta, told.latest, told.training) == (None, {}, "epoch 1 of 3")
    note(journal, 0)  # of which two steps are noted already
    note(journal, 1, steps=1)
    told = live.progress(RUN)
    assert told
    assert (told.epoch, told.epochs, told.step, told.steps) == (1, 3, 5, 12)
    assert told.latest == {"train_loss": 0.3, "val_loss": 0.4, "val_accuracy": 0.5}
    assert (told.training, told.member, told.members) == ("epoch 2 of 3", 0, 1)
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
    assert live.curves(RUN) == [Curves()]
    work.trains(TRAINING)
    journal = Journal(trainings() / TRAINING)
    note(journal, 0)
    (first,) = live.curves(RUN)
    assert first.epochs == {"train_loss": [(1, 0.3)], "val_loss": [(1, 0.4)], "val_accuracy": [(1, 0.5)]}
    assert first.steps["learning_rate"] == [(1, 0.1), (2, 0.1), (3, 0.1), (4, 0.1)]
    note(journal, 1, score=math.nan)
    journal.append("step", 8, {"train/loss": math.inf, "train/learning_rate": 0.2})
    note(journal, 2, score=0.75)
    (then,) = live.curves(RUN)
    assert then.epochs["val_accuracy"] == [(1, 0.5), (3, 0.75)]
    assert [step for step, _ in then.steps["loss"]] == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]
    assert "images_per_second" not in then.epochs
    journal.close()
    (trainings() / TRAINING / "journal.jsonl").unlink()  # the training starts over, in the same folder
    time.sleep(0.002)
    note(Journal(trainings() / TRAINING), 0)
    assert live.curves(RUN) == [first]


def test_a_long_curve_is_drawn_with_few_points(work: Work) -> None:
    work.trains(TRAINING)
    journal = Journal(trainings() / TRAINING)
    for step in range(10_007):
        journal.append("step", step, {"train/loss": float(step % 2), "train/learning_rate": step / 10_007})
    journal.close()
    start = time.process_time()
    found = live.curves(RUN)[0].steps
    assert time.process_time() - start < 10
    assert len(found["loss"]) <= POINTS
    assert found["loss"][-1][0] == 10_007
    size = found["loss"][0][0]
    assert found["learning_rate"][0] == (size, pytest.approx((size - 1) / 2 / 10_007))
    start = time.process_time()
    live.progress(RUN)
    assert time.process_time() - start < 0.5  # what was read is not read again


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
    (found,) = courses(TRAINING)
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
    assert seconds_left([found], 1, 10, begun + now) == (left if left is None else pytest.approx(left))
    assert seconds_left([found], 1, 0, begun + now) is None


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
    assert live.curves(name) == [Curves()]
    assert live.log_tail(name, 0) == ("", 0)


def test_damage_shows_nothing_and_breaks_nothing(work: Work) -> None:
    work.trains("../../outside")
    assert live.curves(RUN) == [Curves()]
    work.trains(TRAINING)
    assert live.curves(RUN) == [Curves()]
    path = trainings() / TRAINING / "journal.jsonl"
    for text in ("not json\n", "[]\n", '{"time": 1}\n', '{"time": 1, "series": "x", "step": 1, "values": {"a": 1}}\n'):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        told = live.progress(RUN)
        assert told and told.stage == ""
        assert live.curves(RUN) == [Curves()]


def test_an_attempt_of_older_code_still_loads(project: Path) -> None:  # noqa: ARG001
    old = {"id": RUN, "key": "k", "model": "digits", "started": 1, "run": "m", "seconds": {"ingest": 1.0}}
    write_json(attempts.folder(RUN) / "attempt.json", old)
    told = live.progress(RUN)
    assert told == live.Progress(run=RUN, state="stopped", stage="", seconds={"ingest": 1.0})


def test_looking_is_cheap_to_import() -> None:
    heavy = "torch mlflow prefect dvc scipy pandas pyarrow numpy sklearn"
    code = f"import sys, flows.live, flows.jobs; print([one for one in '{heavy}'.split() if one in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# --- several trainings that make one model

EPOCHS_OF_MEMBERS = 3
STEPS_OF_MEMBERS = (4, 4, 5)
"""In an epoch: of folds they may differ."""


@pytest.fixture
def ensemble(project: Path) -> Work:  # noqa: ARG001
    """A run of three members at work, of three epochs at most."""
    params = {"name": "digits", "train": {"epochs": EPOCHS_OF_MEMBERS}, "ensemble": {"members": 3, "by": "folds"}}
    attempt = Attempt(id=RUN, key="key", model="digits", started=1, flow_run=FLOW, params=params)
    lock = attempts._try_lock("key")
    assert lock
    work = Work(attempt, lock)
    work.at("train")
    work.trains(TRAINING)
    return work


def member(number: int) -> Journal:
    """The journal of that member, 1-based."""
    return Journal(trainings() / TRAINING, number)


def learn(journal: Journal, number: int, epoch: int, steps: int | None = None) -> None:
    """Some steps of an epoch of that member, all if None, and then its end."""
    of = STEPS_OF_MEMBERS[number - 1]
    for step in range(epoch * of, epoch * of + (of if steps is None else steps)):
        journal.append("step", step, {"train/loss": number + step / 100, "train/learning_rate": 0.1})
        if step % of == 0:
            journal.append("gradient", step, {"gradient_norm/all": 1.0 + number, "gradient_norm/0.0": 0.5})
    if steps is None:
        values = {"epoch/train_loss": 1.0, "epoch/val_loss": 1.0, "epoch/val_accuracy": number / 10 + epoch / 100}
        journal.append("epoch", epoch, {**values, "epoch/images_per_second": 900.0})
    journal.flush()


def go_back(journal: Journal, number: int, epoch: int, time: int) -> None:
    """As `pipeline.train.rollback` notes it, the so-and-so-many-eth time."""
    first = epoch * STEPS_OF_MEMBERS[number - 1]
    journal.append(ROLLBACK, time, {"step": float(first), "gradient": float(first), "epoch": float(epoch)})
    journal.flush()


def learn_all() -> None:
    """One that learns to the end, one that stops after two epochs of three, one that goes back twice."""
    for number, epochs in ((1, 3), (2, 2), (3, 3)):
        journal = member(number)
        if number == 3:
            go_back(journal, 3, 0, 0)  # before anything of it was noted
        for epoch in range(epochs):
            learn(journal, number, epoch)
            if (number, epoch) == (3, 1):
                learn(journal, 3, 2, steps=2)
                go_back(journal, 3, 1, 1)
                learn(journal, 3, 1)
        journal.close()


def by_hand(number: int, epochs: int) -> Curves:
    """What the course of that member is."""
    of = STEPS_OF_MEMBERS[number - 1]
    steps = range(epochs * of)
    ones = [(epoch + 1, 1.0) for epoch in range(epochs)]
    scores = [(epoch + 1, number / 10 + epoch / 100) for epoch in range(epochs)]
    measured = [(step + 1, 1.0 + number) for step in steps if step % of == 0]
    return Curves(
        member=number,
        epochs={"train_loss": ones, "val_loss": ones, "val_accuracy": scores},
        steps={
            "loss": [(step + 1, number + step / 100) for step in steps],
            "learning_rate": [(step + 1, 0.1) for step in steps],
        },
        gradients={"all": measured, "0.0": [(step, 0.5) for step, _ in measured]},
    )


def test_each_member_has_its_own_curves_while_it_learns(ensemble: Work) -> None:  # noqa: ARG001
    assert live.curves(RUN) == [Curves()]
    first = member(1)
    learn(first, 1, 0)
    first.close()
    assert live.curves(RUN) == [by_hand(1, 1)]
    (folder_of(trainings() / TRAINING, 1) / JOURNAL).unlink()  # it starts over
    time.sleep(0.002)
    learn_all()
    assert live.curves(RUN) == [by_hand(1, 3), by_hand(2, 2), by_hand(3, 3)]


def test_how_far_an_ensemble_is_is_told_of_the_member_that_learns_and_the_bar_is_that_of_all(ensemble: Work) -> None:  # noqa: ARG001
    def said() -> tuple[str, int, int]:
        attempt = attempts.read(RUN)
        assert attempt
        found = live_of(glances.of_attempt(attempt))
        return found.words, found.done, found.total

    assert said() == ("member 1 of 3, epoch 1 of 3", 0, 3)
    learn(first := member(1), 1, 0, steps=2)
    assert said() == ("member 1 of 3, epoch 1 of 3", 0, 3)
    learn(first, 1, 0)
    assert said() == ("member 1 of 3, epoch 2 of 3, step 4 of 12", 4, 36)
    learn(first, 1, 1)
    learn(first, 1, 2)
    first.close()
    assert said() == ("member 1 of 3, epoch 3 of 3, step 12 of 12", 12, 36)
    learn(second := member(2), 2, 0, steps=1)
    assert said() == ("member 2 of 3, epoch 1 of 3, step 1 of 12", 13, 36)
    learn(second, 2, 0)
    learn(second, 2, 1)  # and stops early
    second.close()
    learn(third := member(3), 3, 0)
    learn(third, 3, 1, steps=3)
    assert said() == ("member 3 of 3, epoch 2 of 3, step 8 of 15", 32, 39)
    third.close()


def test_status_says_which_member_is_at_which_epoch(ensemble: Work) -> None:
    assert status._training() == ""  # none was begun in this tree
    learn(first := member(1), 1, 0)
    assert status._training() == (
        "; train: member 1 of 3, epoch 2 of 3; epoch 1 came to train_loss 1, val_loss 1, val_accuracy 0.1"
    )
    learn(first, 1, 1)
    learn(first, 1, 2)
    learn(second := member(2), 2, 0, steps=2)
    assert status._training() == "; train: member 2 of 3, epoch 1 of 3"
    learn(second, 2, 0)
    assert status._training() == (
        "; train: member 2 of 3, epoch 2 of 3; epoch 1 came to train_loss 1, val_loss 1, val_accuracy 0.2"
    )
    ensemble.at("evaluate")
    assert status._training() == "; evaluate"
    ensemble.at("train")
    Journal(trainings() / "another").close()  # a run in this tree that is not known to train yet
    assert status._training() == ""
    member(2).close()
    assert status._training() != ""
    ensemble.release()
    assert status._training() == ""


def test_the_time_left_is_that_of_all_members(ensemble: Work) -> None:  # noqa: ARG001
    learn_all()
    now, ended = 1_000_000, 0
    for number in (1, 2, 3):
        path = folder_of(trainings() / TRAINING, number) / JOURNAL
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            ended += row["series"] == "epoch"
            row["time"] = (now + 10 * ended) * SECOND
        if number == 3:  # it has taken one step; the second has stopped early
            rows = rows[:2]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = courses(TRAINING)
    assert [one.epochs for one in found] == [3, 2, 0]
    assert seconds_left(found, 3, 3, now + 50) == pytest.approx(30)  # of ten seconds each
    assert seconds_left(found[:2], 3, 3, now + 50) == pytest.approx(40)  # it does not know yet that the second stops


def test_tables_of_an_ensemble_say_whose_each_row_is(ensemble: Work, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    learn_all()
    notes = Path("out/training")
    write_notes(notes, trainings() / TRAINING, "accuracy", {})
    epochs, steps, gradients = ((notes / f"{name}.csv").read_text() for name in ("epochs", "steps", "gradients"))
    assert [line.split(",")[:2] for line in epochs.splitlines()] == [
        ["member", "epoch"], ["1", "0"], ["1", "1"], ["1", "2"],
        ["2", "0"], ["2", "1"], ["3", "0"], ["3", "1"], ["3", "2"]
    ]  # fmt: skip
    assert steps.splitlines()[0] == "member,step,loss,learning_rate"
    assert gradients.splitlines()[0] == "member,step,all,0.0"
    assert json.loads((notes / "training.json").read_text())["steps"] == 12 + 8 + 15
    of_epochs, of_steps, of_gradients = map(_table, (epochs, steps, gradients))
    found = [
        Curves(member=number, epochs=of_epochs[number], steps=of_steps[number], gradients=of_gradients[number])
        for number in (1, 2, 3)
    ]
    assert found == [by_hand(1, 3), by_hand(2, 2), by_hand(3, 3)]
    monkeypatch.setattr(drain, "CURVES", notes)
    sent = drain._from_files(1)
    assert {number: len({row.step for row in rows if "train/loss" in row.values}) for number, rows in sent.items()} == {
        1: 12, 2: 8, 3: 15
    }  # fmt: skip
    logged = {name for rows in sent.values() for row in rows for name in row.values}  # MLflow gets what was measured
    assert logged == {"train/loss", "train/learning_rate", "gradient_norm/all", "gradient_norm/0.0"} | {
        f"epoch/{name}" for name in ("train_loss", "val_loss", "val_accuracy")
    }


def test_tables_of_one_training_name_no_member(work: Work) -> None:  # noqa: ARG001
    home = trainings() / TRAINING
    journal = Journal(home)
    note(journal, 0)
    write_notes(Path("notes"), home, "accuracy", {})
    assert Path("notes/epochs.csv").read_text().splitlines()[0] == "epoch,train_loss,val_loss,val_accuracy"
    journal.append("epoch", 1, {f"epoch/{name}": 1.0 for name in ("train_loss", "val_loss", "val_accuracy", "side")})
    journal.flush()  # the pictures grow
    write_notes(Path("notes"), home, "accuracy", {})
    assert Path("notes/epochs.csv").read_text().splitlines()[0] == "epoch,train_loss,val_loss,val_accuracy,side"


def until(condition: Callable[[], object], patience: float = 600.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


EPOCHS = 300


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
    assert len(live.curves(run)[0].epochs["val_accuracy"]) > 3
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
    assert [epoch for epoch, _ in live.curves(run)[0].epochs["val_loss"]][-1] == EPOCHS
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
