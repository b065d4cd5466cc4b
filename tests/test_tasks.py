"""Every file in pipeline/tasks/ meets one contract; classification in detail."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contracts import Output, Target, TaskConfig
from pipeline.errors import UserError
from pipeline.plugin import config_class, names
from pipeline.tasks.classification import Config, natural

TASK = Config()


@pytest.mark.parametrize("name", names("tasks"))
def test_says_what_it_learns_and_its_score_is_a_metric_of_that(name: str):
    task = config_class("tasks", name)()
    assert isinstance(task, TaskConfig)
    assert isinstance(task.learns, Target) and isinstance(task.needs, Output)
    assert config_class("metrics", task.score).takes is task.learns


def test_classes_come_in_natural_order_once_each():
    found = TASK.classes(iter(["10", "2", "cat", "dog 10", "dog 9", "2", "007", "7", "Ähre"]))
    assert found == ["2", "007", "7", "10", "cat", "dog 9", "dog 10", "Ähre"]


@given(st.lists(st.text(alphabet="0129a-²٣ ", max_size=6), min_size=2, unique=True))
def test_order_of_classes_does_not_depend_on_the_order_of_files(found: list[str]):
    classes = TASK.classes(found)
    assert sorted(classes) == sorted(found)
    assert TASK.classes(reversed(found)) == classes


def test_numbers_of_any_length_compare():
    assert natural("9" * 5000) < natural("1" + "0" * 5000)
    assert natural("x" + "9" * 5000) < natural("x1" + "0" * 5000)


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ([], "Classification needs images of two classes or more; the source has 0 (none)."),
        (["cat", "cat"], "Classification needs images of two classes or more; the source has 1 ('cat')."),
    ],
)
def test_fewer_than_two_classes_are_refused(annotations: list[str], words: str):
    with pytest.raises(UserError) as error:
        TASK.classes(annotations)
    assert words in str(error.value)
    assert "Add images of another class" in str(error.value)


def test_label_is_the_position_of_the_class_and_the_stratum_its_name():
    assert TASK.columns("dog", ["cat", "dog"]) == {"label": 1}
    assert TASK.stratum("dog") == "dog"


def test_targets_are_the_label_column():
    samples = pa.table({"id": ["a", "b", "c"], "label": pa.array([2, 0, 1], pa.int32())})
    targets = TASK.targets(samples)
    assert targets.dtype == np.int64 and targets.tolist() == [2, 0, 1]
    assert TASK.targets(samples.slice(0, 0)).shape == (0,)


@pytest.mark.filterwarnings("error")
def test_probabilities_are_the_softmax_at_any_scale():
    outputs = np.array([[0, np.log(3)], [1e30, -1e30], [-3e38, -3e38]], np.float32)
    probabilities = TASK.probabilities(outputs)
    assert probabilities.dtype == np.float64
    assert probabilities == pytest.approx(np.array([[0.25, 0.75], [1, 0], [0.5, 0.5]]), abs=1e-7)


def test_baseline_answers_with_the_shares_of_the_training_images():
    baseline = TASK.baseline(np.array([1, 1, 0, 1]), classes=3, count=2)
    assert baseline.tolist() == [[0.25, 0.75, 0], [0.25, 0.75, 0]]
