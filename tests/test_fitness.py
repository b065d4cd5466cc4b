"""The infrastructure check: registered files that are not what they should be, too slow, or too large."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from registry_project import make_project, told

from pipeline import asking, score
from pipeline.answering import Answers
from pipeline.answers.labels import LabelAnswers
from pipeline.asking import Told
from pipeline.bundle import FILES, Bundle, digest_of
from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.packed import packed
from pipeline.params import GateOptions
from pipeline.registry import champion, fitness
from pipeline.registry.champion import Version
from pipeline.registry.fitness import PREDICTIONS, Fitness
from pipeline.registry.tracking import Away
from pipeline.train_options import ComputeOptions

MODEL = Path("out/model")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fitness") / "project"
    make_project(root)
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Iterator[None]:
    """A fresh copy of the project, entered."""
    shutil.copytree(made, tmp_path / "project")
    before = Path.cwd()
    os.chdir(tmp_path / "project")
    yield
    os.chdir(before)


def moved(answers: Answers, by: float) -> LabelAnswers:
    """The same with every probability moved."""
    assert isinstance(answers, LabelAnswers)
    return LabelAnswers(answers.classes, answers.labels, answers.probabilities + by)


def examine(limits: GateOptions | None = None, **changes: object) -> Fitness:
    version = Version(name="digits", version="1", digest=digest_of(MODEL), dataset="d" * 64, location=str(MODEL))
    ids = Dataset.open().split("test").ids
    return fitness.examine(version, ids, limits or GateOptions(), lambda folder: replace(told(folder), **changes))


def check(found: Fitness, name: str) -> tuple[bool, str]:
    (one,) = (check for check in found.checks if check.name == name)
    return one.passed, one.found


@pytest.mark.usefixtures("project")
def test_a_fresh_process_reads_whole_files_answers_serves_and_is_timed() -> None:
    version = Version(name="digits", version="1", digest=digest_of(MODEL), dataset="d" * 64, location=str(MODEL))
    compute = ComputeOptions(device="cpu", threads=1)
    found = fitness.examine(
        version, Dataset.open().split("test").ids, GateOptions(), lambda at: asking.ask(at, compute)
    )
    assert [one.name for one in found.checks] == ["files", "answers", "latency", "size"]
    assert (found.problems, found.comparable) == ([], True)
    assert found.told
    assert (len(found.told.answers), len(found.told.golden)) == (40, 16)
    assert found.told.device == "cpu" and found.told.timed >= 20 and found.told.milliseconds > 0
    assert found.told.answers.at(range(16)).difference(found.told.golden).max() < 1e-6
    assert found.told.answers.difference(told(MODEL).answers).max() < 1e-6
    assert found.checks[0].found == f"Whole: the digest is {version.digest[:12]}, as registered."
    assert found.checks[1].found.startswith("As evaluated on 40 test images, and on 16 of them served as encoded")
    assert found.checks[2].found.endswith(f"(median of {found.told.timed}, cpu); no limit is set.")


@pytest.mark.usefixtures("project")
def test_a_model_of_grey_pictures_answers_coloured_ones_as_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    info = Path("out/dataset/dataset.json")
    info.write_text(info.read_text().replace('"channels": 1', '"channels": 3'))
    bundle, test = Bundle.open(MODEL), Dataset.open().split("test")
    assert packed(test, bundle.info.frame, bundle.info.packed).shape[-1] == 3  # not what the network takes
    monkeypatch.setattr(score, "PORTION", 16)  # the last one is not full
    found = bundle.task.answers(test, score.of_split(bundle, test, torch.device("cpu")))
    assert found.difference(told(MODEL).answers).max() < 1e-6


@pytest.mark.usefixtures("project")
def test_files_that_were_changed_or_are_gone_are_not_asked() -> None:
    version = Version(name="digits", version="1", digest="0" * 64, dataset="d" * 64, location=str(MODEL))
    found = fitness.examine(version, [], GateOptions(), lambda _: pytest.fail("they were asked"))
    assert (found.told, found.bundle, found.comparable, len(found.checks)) == (None, None, False, 1)
    assert "were changed after it was registered" in check(found, "files")[1]
    shutil.rmtree(MODEL)
    found = fitness.examine(version, [], GateOptions(), lambda _: pytest.fail("they were asked"))
    assert "The files of version 1 of 'digits' are gone" in found.problems[0]


@pytest.mark.usefixtures("project")
def test_what_lies_outside_of_the_files_is_not_held_against_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> Told:
        raise UserError("No room to write")

    version = Version(name="digits", version="1", digest=digest_of(MODEL), dataset="d" * 64, location=str(MODEL))
    with pytest.raises(UserError, match="No room to write"):
        fitness.examine(version, [], GateOptions(), full)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(champion, "fetched", lambda digest: Path("fetched") / digest)
    with pytest.raises(Away):
        fitness.examine(version.model_copy(update={"location": "models:/m-1"}), [], GateOptions(), full)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("way", "by", "where"),
    [
        ("answers", 0.1, ""),
        ("answers", np.nan, ""),
        ("golden", 0.1, " where encoded pictures are served"),
        ("golden", np.nan, " where encoded pictures are served"),
    ],
)
def test_other_answers_than_those_of_the_trained_model(way: str, by: float, where: str) -> None:
    found = examine(**{way: moved(getattr(told(MODEL), way), by)})
    assert not found.comparable
    passed, words = check(found, "answers")
    assert not passed
    assert words.startswith(
        f"The registered files give other answers than the trained model{where}: one differs by {by:.2g}, "
    )
    assert words.endswith("and 1e-05 is the limit. Remove this version in MLflow and run again.")


@pytest.mark.usefixtures("project")
def test_a_hair_is_no_other_answer() -> None:
    answers = told(MODEL).answers
    near = moved(answers, 5e-6)
    assert examine(answers=near, golden=near.at(range(16))).problems == []
    assert len(examine(answers=moved(answers, 2e-5)).problems) == 1


@pytest.mark.usefixtures("project")
def test_an_evaluation_of_other_images() -> None:
    rows = pq.read_table(PREDICTIONS)
    pq.write_table(rows.slice(1), PREDICTIONS)
    words = "out/evaluation/predictions.parquet is about other test images than out/dataset: run `convoy run` again."
    assert examine().problems == [words]
    pq.write_table(rows.take(pa.array(range(39, -1, -1))), PREDICTIONS)
    assert examine().problems == []  # an answer goes with its image, wherever it stands


@pytest.mark.usefixtures("project")
def test_limits_of_time_and_size() -> None:
    size = sum((MODEL / name).stat().st_size for name in FILES) / 1e6
    found = examine(GateOptions(latency_ms=2.5, size_mb=size))
    assert check(found, "latency") == (
        True,
        "2.5 ms from an encoded picture to its answer (median of 20, cpu); gate.latency_ms allows 2.5.",
    )
    assert check(found, "size") == (True, f"{size:.3g} MB of files; gate.size_mb allows {size:g}.")
    found = examine(GateOptions(latency_ms=2.4, size_mb=size * 0.99))
    assert found.comparable  # its answers are right, so comparing them says something
    assert found.problems == [
        "Too slow: 2.5 ms from an encoded picture to its answer (median of 20, cpu); gate.latency_ms allows 2.4.",
        f"Too large: {size:.3g} MB of files; gate.size_mb allows {size * 0.99:g}.",
    ]
    assert examine(GateOptions(latency_ms=5), milliseconds=float("nan")).problems[0].startswith("Too slow: nan ms")
