"""What is allowed and hardly ever wanted is said before a training begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_project import params_of
from ready_files import of_ready

from pipeline.contracts import Frame
from pipeline.policy import Policy
from pipeline.train.processes.place import MEETING
from pipeline.train.remarks import remarks
from pipeline.training import Course

PLAIN = Policy(
    channels=1,
    frame=Frame(),
    packed=12,
    size=12,
    mean=[0.5],
    deviation=[0.5],
    transforms={},
    mosaic=0,
    alternates=False,
)


def test_more_processes_than_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.train.remarks.cores", lambda: 2)
    for name, value in {MEETING: "here", "RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    params = params_of(tmp_path, "compute.processes=4")
    assert list(remarks(params, PLAIN, 1000)) == [
        "compute.processes is 4, but there are 2 cores of the processor, for which they wait in turn: fewer are faster"
    ]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert list(remarks(params, PLAIN, 1000)) == []


@pytest.mark.parametrize(
    ("changes", "pictures", "said"),
    [
        (["train.batch_size=64"], 1000, []),
        (
            ["train.batch_size=2000"],
            1000,
            ["train.batch_size is 2,000, but there are 1,000 pictures to learn from: an epoch is one step"],
        ),
        (
            ["train.batch_size=700"],
            1000,
            [
                "train.batch_size is 700, of 1,000 pictures to learn from: batches are full ones, so an epoch passes "
                "over 300 pictures, others each time"
            ],
        ),
        (
            ["order={name: balanced}", "loss.class_weights=balanced"],
            1000,
            [
                "order 'balanced' and loss.class_weights 'balanced' both make up for rare classes, which count twice "
                "over"
            ],
        ),
        (
            ["layers.rate_decay=0.5", "ensemble={members: 2, join: soup}"],
            1000,
            [
                "layers.rate_decay is 0.5, but model 'convnet' starts from random weights: its first layers hardly "
                "learn",
                "ensemble.join is 'soup', but model 'convnet' starts from random weights: means are for networks that "
                "begin with what they all share",
            ],
        ),
    ],
)
def test_what_hardly_anybody_wants(tmp_path: Path, changes: list[str], pictures: int, said: list[str]) -> None:
    assert list(remarks(params_of(tmp_path, *changes), PLAIN, pictures)) == said


CLIMB = "the rate may climb for half of the epochs before it falls"
STOPS = "epochs can follow the best: it never stops early; set it to"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            ["train.epochs=1"],
            [f"schedule.warmup_epochs is 1, but {CLIMB}: it does for 0.5; set that, or train.epochs to 2"],
        ),
        (["train.epochs=2"], []),
        (
            ["train.epochs=10", "schedule={name: step, warmup_epochs: 3, drops: [0.4, 0.8]}"],
            [f"schedule.warmup_epochs is 3, but {CLIMB}: it does for 2; set that, or train.epochs to 15"],
        ),
        (["train.epochs=15", "schedule={name: step, warmup_epochs: 3, drops: [0.4, 0.8]}"], []),
        (
            ["train.epochs=4", "schedule={name: one_cycle, warmup_epochs: 2.5}"],
            [f"schedule.warmup_epochs is 2.5, but {CLIMB}: it does for 2; set that, or train.epochs to 5"],
        ),
        (["train.epochs=1", "schedule={name: one_cycle}"], []),
        (
            ["train.epochs=4", "schedule.name=plateau"],
            [
                "schedule 'plateau' would drop the rate in epoch 5 at the earliest, as schedule.patience is 2, and "
                "there are 4; set train.epochs to more, or take another schedule"
            ],
        ),
        (["train.epochs=5", "schedule.name=plateau"], []),
        (
            ["train.epochs=20", "schedule.name=plateau", "train.patience=3"],
            [
                "schedule 'plateau' would drop the rate after 3 epochs without a better score, but train.patience, 3, "
                "ends the training by then; set that to 4 or more, or to 0"
            ],
        ),
        (["train.epochs=20", "schedule.name=plateau", "train.patience=4"], []),
        (
            ["train.epochs=10", "train.patience=9"],
            [f"train.patience is 9, but no more than 9 {STOPS} less than 9, or to 0"],
        ),
        (["train.epochs=10", "train.patience=8"], []),
        (["train.epochs=2", "train.patience=1"], [f"train.patience is 1, but no more than 1 {STOPS} 0"]),
        (
            ["average={name: lookahead, every: 500}"],
            ["average 'lookahead' comes back every 500 steps, and there are 375; set average.every to less"],
        ),
        (
            ["train.batch_size=1000", "average.name=swa"],
            ["average 'swa' begins after 0.75 of 3 steps, which leaves no two for a mean; lower average.start"],
        ),
        (
            ["train.full_size_from=0.5"],
            [
                "train.full_size_from is 0.5, but train.first_size is 0: no pictures grow; set that to the side to "
                "begin with"
            ],
        ),
        (["train.full_size_from=0.5", "train.first_size=8"], []),
    ],
)
def test_what_does_nothing(tmp_path: Path, changes: list[str], said: list[str]) -> None:
    assert list(remarks(params_of(tmp_path, *changes), PLAIN, 1000)) == said


def test_the_plateau_and_patience_do_as_is_said(tmp_path: Path) -> None:
    """Scores that never become better: where a remark is made no rate drops in time, and else one does."""
    for epochs, patience in ((4, 0), (5, 0), (20, 3), (20, 4)):
        params = params_of(tmp_path, "schedule.name=plateau", f"train.epochs={epochs}", f"train.patience={patience}")
        done = min(epochs, patience + 1) if patience else epochs
        rates = {params.schedule.factor(Course(10 * epoch + 9, 10, epochs, [0.5] * epoch)) for epoch in range(1, done)}
        assert (len(rates) == 1) == bool(list(remarks(params, PLAIN, 80)))


def test_more_threads_than_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.train.remarks.cores", lambda: 2)
    assert list(remarks(params_of(tmp_path, "compute.threads=3"), PLAIN, 1000)) == [
        "compute.threads is 3, but there are 2 cores of the processor, for which they wait in turn; set it to 0"
    ]
    two = params_of(tmp_path, "compute.threads=2")
    assert not list(remarks(two, PLAIN, 1000))
    for name, value in {MEETING: "here", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert list(remarks(two, PLAIN, 1000)) == [
        "compute.threads is 2 in each of 2 processes, but there are 2 cores of the processor, for which they wait in "
        "turn; set it to 0"
    ]


def test_mosaics_that_no_epoch_sees(tmp_path: Path) -> None:
    mosaics = PLAIN.model_copy(update={"mosaic": 0.5})
    schedule = "schedule.warmup_epochs=0"
    assert list(remarks(params_of(tmp_path, schedule, "train.epochs=1"), mosaics, 1000)) == [
        "augment has mosaics, but the last epoch sees none, and there is one; set train.epochs to 2 or more"
    ]
    assert not list(remarks(params_of(tmp_path, schedule, "train.epochs=2"), mosaics, 1000))


def test_pictures_that_are_compared_and_come_together_by_chance() -> None:
    faces = of_ready("faces-folder", "loss={name: triplet}", "order={name: shuffled}", "train.batch_size=32")
    assert list(remarks(faces, PLAIN, 1000)) == [
        "loss 'triplet' compares pictures of one class in a batch, and order 'shuffled' brings them there by chance: "
        "order 'runs' sees to it"
    ]
    together = of_ready("faces-folder", "loss={name: triplet}", "order={name: runs}", "train.batch_size=32")
    assert not list(remarks(together, PLAIN, 1000))
