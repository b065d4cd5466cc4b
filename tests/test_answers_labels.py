"""One class per image: tables and curves by hand, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as reference

from pipeline.answers.labels import LabelAnswers, calibration, roc


def answers(probabilities: list[list[float]], labels: list[int]) -> LabelAnswers:
    table = np.array(probabilities)
    return LabelAnswers([f"c{k}" for k in range(table.shape[1])], np.array(labels), table)


# Five images of three classes; the fourth and fifth are wrong, the fifth with no probability for the truth.
FIVE = answers(
    [[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.9, 0.0], [0.2, 0.6, 0.2], [1.0, 0.0, 0.0]],
    [0, 0, 1, 0, 1],
)


def test_confusion_and_classes_by_hand():
    confusion = FIVE.confusion()
    assert confusion.counts.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert (confusion.names, confusion.unit) == (FIVE.classes, "images")
    assert FIVE.class_table() == (
        ("class", "images", "precision", "recall", "f1"),
        [("c0", 3, 2 / 3, 2 / 3, 4 / 6), ("c1", 2, 1 / 2, 1 / 2, 2 / 4), ("c2", 0, 0, 0, 0)],
    )


def test_worst_errors_come_first_and_losses_are_finite():
    assert FIVE.worst(9) == [4, 3]
    assert FIVE.worst(1) == [4]
    assert FIVE.worst(0) == []
    assert np.isfinite(FIVE.losses).all()
    assert FIVE.losses[0] == pytest.approx(-np.log(0.7))


def test_what_is_true_and_said_of_each_image():
    assert [FIVE.true(position).words for position in range(5)] == ["c0", "c0", "c1", "c0", "c1"]
    assert [FIVE.said(position).words for position in range(5)] == ["c0", "c0", "c1", "c1", "c0"]
    assert FIVE.quality.tolist() == [1, 1, 1, 0, 0]
    present, quality = FIVE.by_class
    assert present.sum(axis=0).tolist() == [3, 2, 0]
    assert quality.sum(axis=0).tolist() == [2, 1, 0]


def test_columns_bring_them_back_and_others_are_refused():
    again = FIVE.again(pa.table(FIVE.columns()))
    assert (again.probabilities == FIVE.probabilities).all()
    assert FIVE.difference(again).tolist() == [0] * 5
    assert FIVE.at([4, 0]).confidence.tolist() == [1.0, 0.7]
    for other in (pa.table({"x": [1] * 5}), pa.table(FIVE.at([0]).columns())):
        with pytest.raises(ValueError, match="expected probabilities of 3 classes for 5 images"):
            FIVE.again(other)


def test_calibration_by_hand():
    found = calibration(FIVE)
    assert [b.images for b in found] == [1, 1, 1, 1, 1]
    assert found[0] == (7 / 15, 8 / 15, 1, 0.5, 1.0)
    assert found[-1] == (14 / 15, 1.0, 1, 1.0, 0.0)


def test_roc_is_the_mean_of_scikit_learns_curves():
    random = np.random.default_rng(0)
    labels = random.integers(3, size=400)
    table = random.dirichlet(np.ones(4), size=400).round(2)  # the fourth class has no images
    table[np.arange(400), labels] += random.random(400)
    found = roc(answers((table / table.sum(axis=1, keepdims=True)).tolist(), labels.tolist()))
    x, y = np.array(found).T
    curves = [reference.roc_curve(labels == k, (table / table.sum(1, keepdims=True))[:, k])[:2] for k in range(3)]
    assert y[1:] == pytest.approx(np.mean([np.interp(x, *curve) for curve in curves], axis=0)[1:], abs=1e-9)
    assert y[0] == 0
    assert (np.diff(y) >= 0).all()


def test_roc_of_a_single_class_is_none():
    alone = answers([[0.5, 0.5]], [0])
    assert roc(alone) == []
    assert [curve.title for curve in alone.curves()] == ["Confidence and truth"]
