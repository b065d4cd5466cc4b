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

from dashboard import courses
from dashboard.views._live import live_of
from flows import jobs, live, logs
from flows.curves import POINTS, Course, course
from pipeline.files import write_json
from pipeline.journal import JOURNAL, ROLLBACK, Journal, Turns, read, trainings
from pipeline.progress import LOG, write_log
from pipeline.registry import attempts, drain, glances
from pipeline.registry.attempts import Attempt, Finished, Work
from pipeline.registry.glances import Glance
from pipeline.train.members import begins_of
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


def glance() -> Glance:
    attempt = attempts.read(RUN)
    assert attempt
    return glances.of_attempt(attempt)


def member(number: int) -> Journal:
    """The journal as that member, 0-based, opens it."""
    return Journal(trainings() / TRAINING, begins_of(STEPS_OF_MEMBERS[:number], EPOCHS_OF_MEMBERS))


def learn(journal: Journal, number: int, epoch: int, steps: int | None = None) -> None:
    """Some steps of an epoch of that member, all if None, and then its end."""
    of = STEPS_OF_MEMBERS[number]
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
    first = epoch * STEPS_OF_MEMBERS[number]
    journal.append(ROLLBACK, time, {"step": float(first), "gradient": float(first), "epoch": float(epoch)})
    journal.flush()


def learn_all() -> None:
    """One that learns to the end, one that stops after two epochs of three, one that goes back twice."""
    for number, epochs in enumerate((3, 2, 3)):
        journal = member(number)
        if number == 2:
            go_back(journal, 2, 0, 0)  # before anything of it was noted
        for epoch in range(epochs):
            learn(journal, number, epoch)
            if (number, epoch) == (2, 1):
                learn(journal, 2, 2, steps=2)
                go_back(journal, 2, 1, 1)
                learn(journal, 2, 1)
        journal.close()


def by_hand(number: int, epochs: int) -> live.Curves:
    """What the course of that member is."""
    steps = range(epochs * STEPS_OF_MEMBERS[number])
    ones = [(epoch + 1, 1.0) for epoch in range(epochs)]
    scores = [(epoch + 1, number / 10 + epoch / 100) for epoch in range(epochs)]
    measured = [(step + 1, 1.0 + number) for step in steps if step % STEPS_OF_MEMBERS[number] == 0]
    return live.Curves(
        epochs={"train_loss": ones, "val_loss": ones, "val_accuracy": scores},
        steps={
            "loss": [(step + 1, number + step / 100) for step in steps],
            "learning_rate": [(step + 1, 0.1) for step in steps],
        },
        gradients={"all": measured, "0.0": [(step, 0.5) for step, _ in measured]},
    )


def test_each_member_has_its_own_curves_while_it_learns(ensemble: Work) -> None:  # noqa: ARG001
    assert courses.curves(glance()) == [live.Curves()]
    first = member(0)
    learn(first, 0, 0)
    first.close()
    assert courses.curves(glance()) == [by_hand(0, 1)]
    (trainings() / TRAINING / JOURNAL).unlink()
    time.sleep(0.002)
    learn_all()
    assert courses.curves(glance()) == [by_hand(0, 3), by_hand(1, 2), by_hand(2, 3)]


def test_how_far_an_ensemble_is_counts_all_its_members(ensemble: Work) -> None:  # noqa: ARG001
    def said() -> tuple[str, int, int]:
        found = live_of(glance())
        return found.words, found.done, found.total

    assert said() == ("epoch 1 of 3", 0, 3)
    learn(first := member(0), 0, 0, steps=2)
    assert said() == ("member 1 of 3, epoch 1 of 3", 0, 0)
    learn(first, 0, 0)
    assert said() == ("member 1 of 3, epoch 2 of 3, step 4 of 12", 4, 36)
    learn(first, 0, 1)
    learn(first, 0, 2)
    first.close()
    assert said() == ("member 1 of 3, epoch 3 of 3, step 12 of 12", 12, 36)
    learn(second := member(1), 1, 0, steps=1)
    assert said() == ("member 2 of 3, epoch 1 of 3, step 1 of 12", 13, 36)
    learn(second, 1, 0)
    learn(second, 1, 1)  # and stops early
    second.close()
    learn(third := member(2), 2, 0)
    learn(third, 2, 1, steps=3)
    assert said() == ("member 3 of 3, epoch 2 of 3, step 8 of 15", 32, 39)
    third.close()


def test_the_time_left_is_that_of_all_members(ensemble: Work) -> None:  # noqa: ARG001
    learn_all()
    path, now = trainings() / TRAINING / JOURNAL, 1_000_000
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    cut = next(at for at, row in enumerate(lines) if row["series"] == "step" and row["step"] == 2 * 12)
    for at, row in enumerate(lines[: cut + 1]):  # member 2 has stopped early, member 3 has taken a step
        row["time"] = now * SECOND + 10 * SECOND * sum(one["series"] == "epoch" for one in lines[: at + 1])
    path.write_text("".join(json.dumps(row) + "\n" for row in lines[: cut + 1]))
    found = courses.joint(glance())
    assert found and len(found.members) == 3
    assert found.seconds_left(9, now + 50) == pytest.approx(30)  # of ten seconds each; five are done


def test_tables_of_an_ensemble_say_whose_each_row_is(ensemble: Work, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    learn_all()
    members = [{"epochs": 3, "best_epoch": 2}, {"epochs": 2, "best_epoch": 1}, {"epochs": 3, "best_epoch": 2}]
    notes = Path("out/training")
    write_notes(notes, trainings() / TRAINING / JOURNAL, "accuracy", {"members": members})
    epochs, steps, gradients = ((notes / f"{name}.csv").read_text() for name in ("epochs", "steps", "gradients"))
    assert [line.split(",")[:2] for line in epochs.splitlines()] == [
        ["epoch", "member"], ["0", "1"], ["1", "1"],
        ["2", "1"], ["3", "2"], ["4", "2"], ["6", "3"], ["7", "3"], ["8", "3"]
    ]  # fmt: skip
    assert steps.splitlines()[0] == "step,member,loss,learning_rate"
    assert gradients.splitlines()[0] == "step,member,all,0.0"
    assert json.loads((notes / "training.json").read_text())["steps"] == 12 + 8 + 15
    tables = zip(*map(courses._table, (epochs, steps, gradients)), strict=True)
    found = [live.Curves(epochs=one, steps=two, gradients=three) for one, two, three in tables]
    assert found == [by_hand(0, 3), by_hand(1, 2), by_hand(2, 3)]
    monkeypatch.setattr(drain, "CURVES", notes)
    logged = {name for row in drain._from_files(1) for name in row.values}  # MLflow gets what was measured
    assert logged == {"train/loss", "train/learning_rate", "gradient_norm/all", "gradient_norm/0.0"} | {
        f"epoch/{name}" for name in ("train_loss", "val_loss", "val_accuracy")
    }


def test_tables_of_one_training_name_no_member(work: Work) -> None:  # noqa: ARG001
    journal = Journal(trainings() / TRAINING)
    note(journal, 0)
    write_notes(Path("notes"), trainings() / TRAINING / JOURNAL, "accuracy", {})
    assert Path("notes/epochs.csv").read_text().splitlines()[0] == "epoch,train_loss,val_loss,val_accuracy"
    journal.append("epoch", 1, {f"epoch/{name}": 1.0 for name in ("train_loss", "val_loss", "val_accuracy", "side")})
    journal.flush()  # the pictures grow
    write_notes(Path("notes"), trainings() / TRAINING / JOURNAL, "accuracy", {})
    assert Path("notes/epochs.csv").read_text().splitlines()[0] == "epoch,train_loss,val_loss,val_accuracy,side"


def test_rows_in_turn_are_those_of_one_training_alone(ensemble: Work) -> None:  # noqa: ARG001
    learn_all()
    turns = Turns(EPOCHS_OF_MEMBERS)
    whose = [turns.take(row) for row in read(trainings() / TRAINING / JOURNAL, 0)[0]]
    assert [number for number, _ in whose] == sorted(number for number, _ in whose)
    for number, begins in enumerate(turns.begins):
        known = begins_of(STEPS_OF_MEMBERS[:number], EPOCHS_OF_MEMBERS)
        assert begins == {series: known[series] for series in begins}
    back = [row.values for number, row in whose if number == 2 and row.series == ROLLBACK]
    assert back == [{"step": 0, "gradient": 0, "epoch": 0}, {"step": 5, "gradient": 5, "epoch": 1}]


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
