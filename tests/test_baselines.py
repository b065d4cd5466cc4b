"""What nearly blind models answer, by hand and beside scikit-learn's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graded_project import OBJECTS, PIXELS, SHORT, SIDE, SQUARE
from graded_project import make_project as make_graded_project
from registry_project import make_project
from sklearn.neighbors import NearestCentroid

from pipeline.answers.labels import LabelAnswers
from pipeline.answers.objects import ObjectAnswers
from pipeline.bundle import Bundle
from pipeline.contracts import Frame
from pipeline.dataset import Dataset
from pipeline.packed import packed
from pipeline.registry.baselines import BLIND, CLASS_MEANS, LARGEST_CLASS, answers, nearest_mean, small


def test_pictures_are_averaged_in_blocks() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3), np.uint8)
    blocks = pictures.reshape(300, 8, 2, 8, 2, 3).mean(axis=(2, 4))
    assert small(pictures) == pytest.approx(blocks.reshape(300, -1))


def test_a_side_that_eight_does_not_divide_and_one_that_is_smaller() -> None:
    grey = np.arange(20 * 20, dtype=np.uint8).reshape(1, 20, 20, 1)
    # edges at 0, 2, 5, 7, 10, 12, 15, 17, 20
    assert small(grey).reshape(8, 8)[1, 7] == pytest.approx(grey[0, 2:5, 17:20].mean())
    tiny = np.arange(25, dtype=np.uint8).reshape(1, 5, 5, 1)
    assert small(tiny).tolist() == [list(range(25))]


def test_the_nearest_mean_by_hand() -> None:
    seen = np.array([[0.0], [2.0], [10.0], [12.0]])  # means 1 and 11
    found = nearest_mean(seen, np.array([0, 0, 2, 2]), np.array([[3.0], [5.9], [6.1], [100.0]]), classes=3)
    assert found.argmax(axis=1).tolist() == [0, 0, 2, 2]
    assert found.sum(axis=1) == pytest.approx(np.ones(4))
    assert (found[:, 1] == 0).all()  # never seen
    assert 0.5 < found[1, 0] < found[0, 0]


def test_the_nearest_mean_is_that_of_scikit_learn_and_as_sure_as_it_is_right() -> None:
    random = np.random.default_rng(1)
    labels, asked_labels = random.integers(0, 4, (2, 2000))
    means = random.normal(size=(4, 10))
    seen, asked = (means[which] + 1.2 * random.normal(size=(2000, 10)) for which in (labels, asked_labels))
    found = nearest_mean(seen, labels, asked, classes=4)
    assert (found.argmax(axis=1) == NearestCentroid().fit(seen, labels).predict(asked)).all()
    assert found.max(axis=1).mean() == pytest.approx((found.argmax(axis=1) == asked_labels).mean(), abs=0.035)


def test_pictures_that_are_all_alike_leave_no_class_nearer() -> None:
    alike = np.full((6, 3), 7.0)
    assert nearest_mean(alike, np.arange(6) % 2, alike[:2], classes=2).tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_both_answer_the_test_split_of_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = make_project(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    dataset, bundle = Dataset.open(), Bundle.open().info
    found = answers(params.task, dataset, bundle, means=True)
    right = {name: float(told.quality.mean()) for name, told in found.items()}
    assert right == {LARGEST_CLASS: 0.5, CLASS_MEANS: 0.9}  # one in ten looks like the other class
    assert [told.true(3).words for told in found.values()] == ["light", "light"]
    assert list(answers(params.task, dataset, bundle, means=False)) == [LARGEST_CLASS]


def test_of_pictures_in_tiles_the_first_one_has_the_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = make_project(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    dataset, tiles = Dataset.open(), Frame(name="tiles", overlap=0)
    bundle = Bundle.open().info.model_copy(update={"frame": tiles, "packed": 4, "size": 4})
    found = answers(params.task, dataset, bundle, means=True)[CLASS_MEANS]
    seen, asked = (small(packed(dataset.split(name), tiles, 4)[::4]) for name in ("train", "test"))  # four of each
    assert isinstance(found, LabelAnswers)
    expected = nearest_mean(seen, dataset.split("train").labels, asked, classes=2)
    assert found.probabilities == pytest.approx(expected)


@pytest.mark.parametrize("task", [OBJECTS, PIXELS])
def test_where_no_picture_has_a_class_one_answers_that_never_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    params = make_graded_project(tmp_path / "project", task)
    monkeypatch.chdir(tmp_path / "project")
    dataset = Dataset.open()
    found = answers(params.task, dataset, Bundle.open().info, means=True)
    assert list(found) == [BLIND]
    blind = found[BLIND]
    assert (len(blind), blind.classes) == (20, dataset.info.classes)
    if isinstance(blind, ObjectAnswers):
        # every training box in every picture: 20 that are seen and 4 that are not, as many of either class; no crowd
        assert {len(rows) for rows in blind.found} == {24}
        assert set(blind.found.rows[:, 4]) == {12 / 24}
    else:
        assert [blind.said(place).words for place in (0, 1)] == ["background 100%"] * 2
        # of 192 pixels one square is not background; its class is never said
        assert blind.quality[0] == pytest.approx((1 - SQUARE**2 / (SIDE * SHORT)) / 2)
