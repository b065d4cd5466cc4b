"""What nearly blind models answer, by hand and beside scikit-learn's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from registry_project import make_project
from sklearn.neighbors import NearestCentroid

from pipeline.bundle import Bundle
from pipeline.dataset import Dataset
from pipeline.registry.baselines import CLASS_MEANS, LARGEST_CLASS, answers, nearest_mean, small


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
