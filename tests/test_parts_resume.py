"""Every order, mixing and average, and growing pictures: killed and started again, the same weights come of it."""

from __future__ import annotations

import functools
import shutil
import signal
from itertools import zip_longest
from pathlib import Path

import pytest
from forked import Forked, stage
from small_project import make_pictures

from flows.edits import edited
from pipeline.bundle import digest_of
from pipeline.failpoints import VARIABLE, TrainingPoint
from pipeline.plugin import names

ROOT = Path(__file__).parents[1]
SMALL = (
    *("data.name=folder", "data.path=source", "augment.size=24", "model={name: convnet, width: 4}", "train.epochs=4"),
    *("train.batch_size=8", "train.checkpoint_seconds=0", "compute.threads=1", "compute.loader_threads=1"),
    *("compute.precision=float32", "compute.memory_format=contiguous", "compute.device=cpu", "optimizer.lr=0.01"),
)
SECTIONS = ("order", "mixing", "average")
TOGETHER = [
    (*(f"{section}={{name: {name}}}" for section, name in zip(SECTIONS, row, strict=True) if name), *grown)
    for *row, grown in zip_longest(
        *(names(f"{section}s") for section in SECTIONS), [["train.first_size=12"]], fillvalue=""
    )
]
"""Each part of a folder in one training, with one of each other folder."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of 40 training pictures whose training is due."""
    project = tmp_path_factory.mktemp("prepared")
    make_pictures(project / "source")
    write_params(project)
    for name in ("ingest", "augment"):
        finish(name, project)
    return project


def write_params(project: Path, *changes: str) -> None:
    text = edited((ROOT / "params.yaml").read_text(), [*SMALL, *changes])
    (project / "params.yaml").write_text(text)


def copied(prepared: Path, folder: Path, *changes: str) -> Path:
    project = folder / "project"
    shutil.copytree(prepared, project)
    write_params(project, *changes)
    return project


def finish(name: str, project: Path, **variables: str) -> str:
    ended = Forked(project, functools.partial(stage, name), **variables).ended()
    assert ended.status == 0, ended.words
    return ended.words


def ends_alike(prepared: Path, folder: Path, *changes: str, **variables: str) -> bool:
    """Whether a training that is killed and started again ends with the weights of one that nobody kills.

    Args:
        prepared: see there.
        folder: to work in.
        changes: of params.
        variables: of the environment of the one that is killed.
    """
    unharmed = copied(prepared, folder / "unharmed", *changes)
    finish("train", unharmed)
    project = copied(prepared, folder / "killed", *changes)
    # in the fourth step of the third epoch, with five to an epoch: its losses are measured, its side is another
    killed = variables | {VARIABLE: f"{TrainingPoint.STEPS_NOTED.value}:14"}
    assert Forked(project, functools.partial(stage, "train"), **killed).ended().status == -signal.SIGKILL
    assert "train: goes on from epoch 3, step " in finish("train", project, **variables)
    return digest_of(project / "out/model") == digest_of(unharmed / "out/model")


@pytest.mark.slow
@pytest.mark.parametrize("changes", TOGETHER)
def test_killed_and_started_again_it_ends_with_the_same_weights(
    prepared: Path, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    assert ends_alike(prepared, tmp_path, *changes)
