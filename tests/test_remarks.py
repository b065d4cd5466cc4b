"""What is allowed and hardly ever wanted is said before a training begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_project import params_of

from pipeline.train.processes.place import MEETING
from pipeline.train.remarks import remarks


def test_more_processes_than_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.train.remarks.cores", lambda: 2)
    for name, value in {MEETING: "here", "RANK": "0", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    params = params_of(tmp_path, "compute.processes=4")
    assert list(remarks(params, 1000)) == [
        "compute.processes is 4, but there are 2 cores of the processor, for which they wait in turn: fewer are faster"
    ]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert list(remarks(params, 1000)) == []


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
                "over 300 pictures, each over others"
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
    assert list(remarks(params_of(tmp_path, *changes), pictures)) == said
