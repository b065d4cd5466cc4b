"""The journal: complete lines only, each step of a series once, and nothing lost to a kill."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from pipeline.journal import POINTER, ROLLBACK, Journal, Row, current, current_since, journals, read, standing


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_rows_come_back_exactly():
    journal = Journal(Path(".convoy/train/key"))
    journal.append("step", 0, {"train/loss": 0.1 + 0.2, "train/learning_rate": 1e-300})
    journal.append("epoch", 0, {"epoch/val_loss": math.pi})
    journal.close()
    assert current() == Path(".convoy/train/key")
    path = Path(".convoy/train/key/journal.jsonl")
    rows, end = read(path, 0)
    assert [(row.series, row.step, row.values) for row in rows] == [
        ("step", 0, {"train/loss": 0.1 + 0.2, "train/learning_rate": 1e-300}),
        ("epoch", 0, {"epoch/val_loss": math.pi}),
    ]
    assert end == path.stat().st_size
    assert read(path, end) == ([], end)


def test_a_line_that_a_kill_cut_short_is_no_line():
    folder = Path("training")
    journal = Journal(folder)
    journal.append("step", 0, {"a": 1.0})
    journal.close()
    path = folder / "journal.jsonl"
    whole = path.stat().st_size
    with path.open("a") as file:
        file.write('{"time": 1, "series": "step", "st')
    assert read(path, 0)[1] == whole
    journal = Journal(folder)
    journal.append("step", 1, {"a": 2.0})
    journal.close()
    assert [row.step for row in read(path, 0)[0]] == [0, 1]


def test_a_step_that_is_computed_again_is_noted_once():
    folder = Path("training")
    for first in (0, 2):  # the second training goes on from step 2, and computes 2 and 3 again
        journal = Journal(folder)
        for step in range(first, first + 4):
            journal.append("step", step, {"a": float(step)})
        journal.close()
    rows: list[Row] = read(folder / "journal.jsonl", 0)[0]
    assert [row.step for row in rows] == [0, 1, 2, 3, 4, 5]


def test_a_training_that_began_before_is_not_the_one_at_work():
    assert current_since(0) is None
    Journal(Path(".convoy/train/key")).close()
    os.utime(POINTER, (1000, 1000))
    assert current_since(1_000_000) == current()
    assert current_since(1_001_000) is None
    Journal(Path(".convoy/train/key")).close()  # it was started again
    assert current_since(1_001_000) == current()


def test_members_of_an_ensemble_note_their_own_steps_and_take_back_only_these():
    home = Path(".convoy/train/key")
    for number, rollbacks in ((1, 3), (2, 1)):  # of one epoch of four steps
        journal = Journal(home, number)
        for attempt in range(rollbacks + 1):
            for step in range(4):
                journal.append("step", step, {"loss": 100.0 * number + 10 * attempt + step})
            if attempt < rollbacks:
                journal.append(ROLLBACK, attempt, {"step": 0.0, "gradient": 0.0, "epoch": 0.0})
        journal.close()
        assert current() == home
        assert list(journals(home)) == list(range(1, number + 1))
    losses = {
        member: [row.values["loss"] for row in standing(read(path, 0)[0])] for member, path in journals(home).items()
    }
    assert losses == {1: [130, 131, 132, 133], 2: [210, 211, 212, 213]}


def test_what_a_kill_cut_short_is_that_member_s_alone():
    home = Path("training")
    for number in (1, 2):
        journal = Journal(home, number)
        journal.append("step", 0, {"a": float(number)})
        journal.close()
    first, second = (journals(home)[number] for number in (1, 2))
    whole = first.read_bytes()
    with second.open("a") as file:
        file.write('{"time": 1, "series": "step", "st')
    journal = Journal(home, 2)
    journal.append("step", 0, {"a": 9.0})  # once more
    journal.append("step", 1, {"a": 3.0})
    journal.close()
    assert first.read_bytes() == whole
    assert [(row.step, row.values) for row in read(second, 0)[0]] == [(0, {"a": 2.0}), (1, {"a": 3.0})]


def test_one_training_has_one_journal():
    home = Path("training")
    assert journals(home) == {}
    Journal(home).close()
    assert journals(home) == {0: home / "journal.jsonl"}


def test_where_there_is_none():
    assert current() is None
    assert read(Path("none"), 0) == ([], 0)
