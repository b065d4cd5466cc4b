"""Every file in pipeline/metrics/ meets one contract; the scores are scikit-learn's, or by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.preprocessing import label_binarize

from pipeline.answers.labels import LabelAnswers
from pipeline.contracts import MetricConfig, Target
from pipeline.plugin import config_class, names

OF_OTHERS = "default::pytest.PytestUnraisableExceptionWarning"
"""A socket that a test before left open is told while this one runs, and is no warning of what it is about."""

METRICS = [name for name in names("metrics") if Target.LABEL in config_class("metrics", name).takes]
"""Those of objects and of pixels are in tests/test_answers_objects.py and tests/test_answers_masks.py."""


def metric(name: str) -> MetricConfig:
    return config_class("metrics", name)()


def ones(labels: np.ndarray) -> np.ndarray:
    return np.ones((1, len(labels)))


def scored(name: str, probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    classes = [str(k) for k in range(probabilities.shape[1])]
    return metric(name).score(LabelAnswers(classes, labels, probabilities), weights)


def plain(name: str, probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(scored(name, probabilities, labels, ones(labels))[0])


def answers(images: int, classes: int, seed: int, digits: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are often right, with many ties, and labels that leave no class out."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(classes, size=images - classes)])
    scores = random.gamma(1.0, size=(images, classes)).round(digits) + 0.01
    scores[np.arange(images), labels] += random.integers(3, size=images)
    return scores / scores.sum(axis=1, keepdims=True), labels


def average_precision(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    columns = [reference.average_precision_score(y == k, p[:, k], sample_weight=w) for k in range(p.shape[1])]
    return float(np.mean(columns))


def roc_auc(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    if p.shape[1] == 2:
        return reference.roc_auc_score(y, p[:, 1], sample_weight=w)
    return reference.roc_auc_score(y, p, sample_weight=w, multi_class="ovr", average="macro")


def brier(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    truth = label_binarize(y, classes=range(p.shape[1])) if p.shape[1] > 2 else np.stack([1 - y, y], axis=1)
    return float(np.average(((p - truth) ** 2).sum(axis=1), weights=w))


def calibration_error(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    gaps = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if w[inside].sum() > 0:
            gap = np.average(right[inside], weights=w[inside]) - np.average(confidence[inside], weights=w[inside])
            gaps += w[inside].sum() * abs(gap)
    return gaps / w.sum()


REFERENCES = {
    "accuracy": lambda p, y, w: reference.accuracy_score(y, p.argmax(1), sample_weight=w),
    "balanced_accuracy": lambda p, y, w: reference.balanced_accuracy_score(y, p.argmax(1), sample_weight=w),
    "precision": lambda p, y, w: reference.precision_score(
        y, p.argmax(1), sample_weight=w, average="macro", zero_division=0
    ),
    "recall": lambda p, y, w: reference.recall_score(y, p.argmax(1), sample_weight=w, average="macro", zero_division=0),
    "f1": lambda p, y, w: reference.f1_score(y, p.argmax(1), sample_weight=w, average="macro", zero_division=0),
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "brier": brier,
    "calibration_error": calibration_error,
}


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("name", REFERENCES)
def test_equals_the_reference_plain_and_weighted(name: str, classes: int):
    probabilities, labels = answers(200, classes, seed=classes)
    weights = np.random.default_rng(1).gamma(1.0, size=(5, len(labels)))
    weights = np.concatenate([ones(labels), weights])
    expected = [REFERENCES[name](probabilities, labels, row) for row in weights]
    assert scored(name, probabilities, labels, weights) == pytest.approx(expected, abs=1e-12)


def test_brier_is_scikit_learns():
    probabilities, labels = answers(80, 4, seed=0)
    assert plain("brier", probabilities, labels) == pytest.approx(
        reference.brier_score_loss(labels, probabilities, scale_by_half=False)
    )


@pytest.mark.parametrize("name", METRICS)
def test_whole_numbers_weigh_like_repeated_images(name: str):
    probabilities, labels = answers(60, 4, seed=2)
    counts = np.random.default_rng(3).integers(4, size=(6, len(labels)))
    counts[5] = np.where(labels == 0, 0, counts[5])  # a class falls out of the resample
    repeated = [plain(name, np.repeat(probabilities, row, axis=0), np.repeat(labels, row)) for row in counts]
    assert scored(name, probabilities, labels, counts.astype(float)) == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_order_of_the_images_does_not_matter(name: str):
    probabilities, labels = answers(90, 3, seed=4)
    weights = np.random.default_rng(5).gamma(1.0, size=(3, len(labels)))
    order = np.random.default_rng(6).permutation(len(labels))
    shuffled = scored(name, probabilities[order], labels[order], weights[:, order])
    assert shuffled == pytest.approx(scored(name, probabilities, labels, weights), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_scale_of_the_weights_does_not_matter(name: str):
    probabilities, labels = answers(50, 3, seed=7)
    halved = scored(name, probabilities, labels, ones(labels) / 2)
    assert halved == pytest.approx([plain(name, probabilities, labels)], abs=1e-12)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", METRICS)
def test_certain_answers_score_the_best_and_the_worst(name: str, classes: int):
    labels = np.arange(4 * classes) % classes
    best = plain(name, np.eye(classes)[labels], labels)
    worst = plain(name, np.eye(classes)[(labels + 1) % classes], labels)
    assert np.isfinite([best, worst]).all()
    assert best == (1 if metric(name).higher_is_better else 0)
    assert best > worst if metric(name).higher_is_better else best < worst


@pytest.mark.filterwarnings("error", OF_OTHERS)
@pytest.mark.parametrize("name", METRICS)
def test_without_weight_it_is_undefined_and_without_images_too(name: str):
    probabilities, labels = answers(20, 3, seed=8)
    assert np.isnan(scored(name, probabilities, labels, np.zeros((2, 20)))).all()
    assert np.isnan(scored(name, np.zeros((0, 3)), np.zeros(0, np.int64), np.ones((2, 0)))).all()


@pytest.mark.filterwarnings("error", OF_OTHERS)
@pytest.mark.parametrize("name", METRICS)
def test_one_image_and_one_true_class_are_no_accident(name: str):
    lone = plain(name, np.array([[0.2, 0.8]]), np.array([1]))
    flat = plain(name, np.full((6, 3), 1 / 3), np.zeros(6, np.int64))
    if name == "roc_auc":  # it needs images of two classes
        assert np.isnan([lone, flat]).all()
    else:
        assert np.isfinite([lone, flat]).all()


@pytest.mark.parametrize("name", METRICS)
def test_says_what_it_is(name: str):
    assert metric(name).title and isinstance(metric(name).higher_is_better, bool)
    assert config_class("metrics", name).__doc__


# Four images of three classes: 0 is right, 0 is taken for 1, 1 is right, 2 is taken for 1.
HAND = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.5, 0.4], [0.2, 0.5, 0.3]])
TRUTH = np.array([0, 0, 1, 2])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 2 / 4),
        ("balanced_accuracy", (1 / 2 + 1 + 0) / 3),
        ("precision", (1 + 1 / 3 + 0) / 3),
        ("recall", (1 / 2 + 1 + 0) / 3),
        ("f1", (2 / 3 + 2 / 4 + 0) / 3),
        # class 0: 4 of 4 pairs; class 1: beats 0.2, ties 0.5, loses to 0.6; class 2: beats 0.1 twice, loses to 0.4
        ("roc_auc", (4 / 4 + 1.5 / 3 + 2 / 3) / 3),
        # class 0: both on top; class 1: 1 of 3 at its own level; class 2: 1 of 2
        ("average_precision", (1 + 1 / 3 + 1 / 2) / 3),
        ("brier", ((0.09 + 0.04 + 0.01) + (0.49 + 0.36 + 0.01) + (0.01 + 0.25 + 0.16) + (0.04 + 0.25 + 0.49)) / 4),
        # confidences 0.7 (right), 0.6 (wrong), 0.5 (right), 0.5 (wrong): three bins
        ("calibration_error", (0.3 + 0.6 + abs(1 - 0.5 - 0.5)) / 4),
    ],
)
def test_by_hand(name: str, expected: float):
    assert plain(name, HAND, TRUTH) == pytest.approx(expected)


def test_recall_counts_a_class_that_is_only_predicted_and_balanced_accuracy_does_not():
    probabilities, labels = np.eye(3)[[0, 1, 2]], np.array([0, 1, 1])
    assert plain("recall", probabilities, labels) == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert plain("balanced_accuracy", probabilities, labels) == pytest.approx((1 + 1 / 2) / 2)


def test_a_class_without_images_is_left_out_of_ranking_scores():
    probabilities, labels = answers(40, 3, seed=9)
    unused = np.concatenate([probabilities, np.full((40, 1), 0.5)], axis=1) / 1.5
    for name in ("roc_auc", "average_precision"):
        assert plain(name, unused, labels) == pytest.approx(plain(name, probabilities, labels))


def test_calibration_bins_are_closed_above():
    # 1/15 steps land in the bin that they close: 5 images in one bin cancel out, in two they would not.
    confidence = 9 / 15
    probabilities = np.tile([confidence, 1 - confidence], (5, 1))
    assert plain("calibration_error", probabilities, np.array([0, 0, 0, 1, 1])) == pytest.approx(0, abs=1e-12)
