"""One of ordered classes per image: answers, metrics, losses and the task, by hand and against scikit-learn."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from sklearn import metrics as reference
from torch import Tensor, nn

from pipeline.annotations import Objects, Thing
from pipeline.answers.grades import GradeAnswers
from pipeline.contracts import AnnotationRules, MetricConfig, Output, Target, Views
from pipeline.errors import UserError
from pipeline.plugin import config_class, names
from pipeline.tasks.ordinal import Config, ranges

OF_OTHERS = "default::pytest.PytestUnraisableExceptionWarning"
"""A socket that a test before left open is told while this one runs, and is no warning of what it is about."""
METRICS = [name for name in names("metrics") if Target.GRADE in config_class("metrics", name).takes]
LOSSES = [name for name in names("losses") if (Output.VECTOR, Target.GRADE) in config_class("losses", name).takes]
TASK = Config()
RULES = AnnotationRules()

# Four images of four classes; said (the medians): 0, 1, 3, 2.
FOUR = GradeAnswers(
    ["none", "mild", "moderate", "severe"],
    np.array([0, 2, 3, 0]),
    np.array([[0.6, 0.2, 0.1, 0.1], [0.4, 0.2, 0.0, 0.4], [0.1, 0.1, 0.2, 0.6], [0.4, 0.0, 0.3, 0.3]]),
)


def answers(images: int, classes: int, seed: int) -> GradeAnswers:
    """Probabilities that are often nearly right; every class has images."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(classes, size=images - classes)])
    near = np.exp(-np.abs(np.arange(classes) - labels[:, None] - random.normal(0, 1, (images, 1))))
    scores = near + random.random((images, classes)) / 5
    return GradeAnswers([str(k) for k in range(classes)], labels, scores / scores.sum(axis=1, keepdims=True))


def metric(name: str) -> MetricConfig:
    return config_class("metrics", name)()


def plain(name: str, told: GradeAnswers) -> float:
    return float(metric(name).score(told, np.ones((1, len(told))))[0])


# answers


def test_the_median_is_said_and_no_other_class_is_nearer_on_average():
    assert FOUR.predicted.tolist() == [0, 1, 3, 2]
    assert FOUR.probabilities[1].argmax() == 0
    told = answers(200, 5, seed=1)
    costs = np.abs(np.arange(5)[:, None] - np.arange(5)) @ told.probabilities.T  # [said, N]
    assert costs[told.predicted, np.arange(200)] == pytest.approx(costs.min(axis=0))
    halves = GradeAnswers(
        ["a", "b", "c"], np.zeros(2, np.int64), np.array([[0.5, 0, 0.5], [0.1 + 0.2 + 0.2, 0.3, 0.2]])
    )
    assert halves.predicted.tolist() == [0, 0]


def test_quality_falls_with_the_distance():
    assert FOUR.quality == pytest.approx([1, 2 / 3, 1, 1 / 3])
    assert FOUR.confidence.tolist() == [0.6, 0.2, 0.6, 0.3]
    assert FOUR.right.tolist() == [True, False, True, False]
    present, quality = FOUR.by_class
    assert present.sum(axis=0).tolist() == [2, 0, 1, 1]
    assert quality[:, 0] == pytest.approx([1, 0, 0, 1 / 3])
    assert FOUR.worst(9) == [1, 3]  # its class has no probability at all


def test_tables_by_hand():
    assert FOUR.confusion().counts.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    header, rows = FOUR.class_table()
    assert header == ("class", "images", "precision", "recall", "error", "f1")
    assert rows[0] == ("none", 2, 1.0, 0.5, 1.0, pytest.approx(2 / 3))
    assert rows[1][:4] == ("mild", 0, 0.0, 0.0) and math.isnan(float(rows[1][4]))
    assert rows[2] == ("moderate", 1, 0.0, 0.0, 1.0, 0.0)
    assert [curve.title for curve in FOUR.curves()] == ["Confidence and truth", "One class against the rest"]


def test_words_bars_and_columns():
    assert [FOUR.said(place).words for place in range(4)] == ["none", "mild", "severe", "moderate"]
    assert FOUR.said(0).bars == [("none", 0.6), ("mild", 0.2), ("moderate", 0.1), ("severe", 0.1)]
    assert FOUR.true(1).words == "moderate"
    again = FOUR.again(pa.table(FOUR.columns()))
    assert isinstance(again, GradeAnswers) and again.predicted.tolist() == [0, 1, 3, 2]
    assert isinstance(FOUR.at([3]), GradeAnswers) and FOUR.at([3]).quality == pytest.approx([1 / 3])


# metrics


REFERENCES: dict[str, Any] = {
    "quadratic_kappa": lambda told, w: reference.cohen_kappa_score(
        told.labels, told.predicted, weights="quadratic", sample_weight=w, labels=range(len(told.classes))
    ),
    "grade_error": lambda told, w: reference.mean_absolute_error(told.labels, told.predicted, sample_weight=w),
    "accuracy": lambda told, w: reference.accuracy_score(told.labels, told.predicted, sample_weight=w),
    "balanced_accuracy": lambda told, w: reference.balanced_accuracy_score(
        told.labels, told.predicted, sample_weight=w
    ),
    "f1": lambda told, w: reference.f1_score(told.labels, told.predicted, average="macro", sample_weight=w),
}


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("name", REFERENCES)
def test_equals_scikit_learn_plain_and_weighted(name: str, classes: int):
    told = answers(150, classes, seed=classes)
    weights = np.concatenate([np.ones((1, 150)), np.random.default_rng(1).gamma(1.0, size=(4, 150))])
    expected = [REFERENCES[name](told, row) for row in weights]
    assert metric(name).score(told, weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_whole_numbers_weigh_like_repeated_images(name: str):
    told = answers(60, 4, seed=2)
    counts = np.random.default_rng(3).integers(4, size=(5, 60))
    counts[4] = np.where(told.labels == 0, 0, counts[4])  # a class falls out of the resample
    repeated = [plain(name, told.at(np.repeat(np.arange(60), row))) for row in counts]
    assert metric(name).score(told, counts.astype(float)) == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_neither_order_nor_scale_of_the_weights_matters(name: str):
    told = answers(70, 3, seed=4)
    weights = np.random.default_rng(5).gamma(1.0, size=(3, 70))
    order = np.random.default_rng(6).permutation(70)
    shuffled = metric(name).score(told.at(order), weights[:, order] / 2)
    assert shuffled == pytest.approx(metric(name).score(told, weights), abs=1e-12)


@pytest.mark.filterwarnings("error", OF_OTHERS)
@pytest.mark.parametrize("name", METRICS)
def test_certain_answers_score_best_and_nothing_is_undefined(name: str):
    labels = np.arange(12) % 4
    best = GradeAnswers(list("abcd"), labels, np.eye(4)[labels])
    worst = GradeAnswers(list("abcd"), labels, np.eye(4)[3 - labels])
    better = metric(name).higher_is_better
    assert plain(name, best) == (1 if better else 0)
    assert plain(name, worst) < plain(name, best) if better else plain(name, worst) > plain(name, best)
    assert np.isnan(metric(name).score(best, np.zeros((2, 12)))).all()
    assert np.isnan(metric(name).score(best.at([]), np.ones((2, 0)))).all()


@pytest.mark.filterwarnings("error", OF_OTHERS)
def test_kappa_by_hand_and_undefined_where_all_is_one_class():
    # off by 0, 1, 0, 2: 5 / 4. By chance: true 0 twice, 2, 3; said 0, 1, 3, 2: (2 * 14 + 6 + 14) / 16
    assert plain("quadratic_kappa", FOUR) == pytest.approx(1 - (5 / 4) / (48 / 16))
    assert plain("grade_error", FOUR) == 3 / 4
    assert math.isnan(plain("quadratic_kappa", FOUR.at([0])))
    assert plain("quadratic_kappa", GradeAnswers(["a", "b"], np.array([0, 1]), np.tile([0.9, 0.1], (2, 1)))) == 0


# losses


def loss(name: str, counts: tuple[int, ...] = (5, 5, 5), **options: Any) -> nn.Module:
    return config_class("losses", name)(**options).build(counts, len(counts))


def logits_of(*rows: list[float]) -> Tensor:
    """Logits whose softmax is these probabilities."""
    return torch.tensor(rows, dtype=torch.float64).log()


@pytest.mark.parametrize("name", LOSSES)
def test_better_answers_cost_less_and_never_below_zero(name: str) -> None:
    shares = (0.05, 0.3, 0.6, 0.9)
    told = [logits_of([(1 - p) / 2, p, (1 - p) / 2]) for p in shares]
    costs = [loss(name).double()(one, torch.tensor([1])).item() for one in told]
    assert costs == sorted(costs, reverse=True) and min(costs) >= 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extremes_stay_finite_with_their_gradients(name: str, size: float) -> None:
    logits = torch.tensor([[size, -size, 0.0], [-size, size, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    cost = loss(name)(logits, torch.tensor([1, 1, 2]))
    cost.backward()
    assert torch.isfinite(cost) and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_the_numeric_one_and_order_does_not_matter(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn((3, 3), generator=random, dtype=torch.float64)
    targets, part = torch.tensor([0, 1, 2]), loss(name).double()
    assert torch.autograd.gradcheck(lambda x: part(x, targets), logits.requires_grad_())
    order = torch.randperm(3)
    assert part(logits[order], targets[order]).item() == pytest.approx(part(logits, targets).item(), rel=1e-12)


def test_ordinal_cross_entropy_by_hand() -> None:
    # true 1 of 3: above the first threshold 0.3 + 0.2, not above the second 0.5 + 0.3
    one = loss("ordinal_cross_entropy").double()(logits_of([0.5, 0.3, 0.2]), torch.tensor([1]))
    assert one.item() == pytest.approx(math.log(2) - math.log(0.8))
    # true 0: not above the first 0.5, not above the second 0.8; the mean of both images
    both = loss("ordinal_cross_entropy").double()(logits_of([0.5, 0.3, 0.2], [0.5, 0.3, 0.2]), torch.tensor([1, 0]))
    assert both.item() == pytest.approx(math.log(2) - math.log(0.8))


def test_ordinal_cross_entropy_is_softmax_of_two_and_minds_the_distance() -> None:
    logits = torch.randn((9, 2), dtype=torch.float64)
    targets = torch.randint(2, (9,))
    expected = nn.functional.cross_entropy(logits, targets).item()
    assert loss("ordinal_cross_entropy", (5, 5))(logits, targets).item() == pytest.approx(expected)
    near, far = logits_of([0.1, 0.8, 0.1]), logits_of([0.1, 0.1, 0.8])
    costs = [loss("ordinal_cross_entropy")(one, torch.tensor([0])).item() for one in (near, far)]
    assert costs[0] < costs[1]
    assert [loss("cross_entropy")(one, torch.tensor([0])).item() for one in (near, far)] == pytest.approx(
        [2.302585] * 2
    )


# the task


class FakeSplit:
    """What a task asks of a split, without one on disk."""

    def __init__(self, classes: list[str], labels: list[int]) -> None:
        self.classes, self.labels = classes, np.array(labels)
        self.dataset = SimpleNamespace(info=SimpleNamespace(classes=classes))

    def __len__(self) -> int:
        return len(self.labels)


def objects(*of: str, crowds: int = 0) -> Objects:
    things = [Thing(name, (0, 0, 2, 2)) for name in of] + [Thing("cell", (0, 0, 2, 2), crowd=True)] * crowds
    return Objects(tuple(things), "a.xml")


def test_ranges_are_named_by_what_they_hold():
    assert ranges((10, 20)) == ["0-9", "10-19", "20+"]
    assert ranges((1, 2, 5)) == ["0", "1", "2-4", "5+"]


@pytest.mark.parametrize(
    ("said", "of", "expected"),
    [
        (objects(), "", "0"),
        (objects("a"), "", "1"),
        (objects("a", "b", "b", crowds=3), "", "2+"),
        (objects("a", "b", "b"), "a", "1"),
    ],
)
def test_objects_are_counted_without_crowds(said: Objects, of: str, expected: str):
    assert Config(counts=(1, 2), of=of).settle(said, 4, 4, RULES).annotation == expected


def test_a_box_without_area_is_no_object_and_is_named():
    task = Config(counts=(2,))
    said = Objects((Thing("a", (0, 0, 2, 2)), Thing("a", (1, 1, 1, 1), "object 2 (a)")), "a.xml")
    settled = task.settle(said, 4, 4, RULES)
    assert settled.annotation == "0-1"
    assert [(flaw.place, flaw.found, done) for flaw, done in settled.problems] == [
        ("object 2 (a)", "the box 1,1,1,1 has no area", "drop")
    ]
    assert task.settle(said, 4, 4, AnnotationRules(bad_box="reject")).annotation is None


def test_objects_without_ranges_are_refused():
    with pytest.raises(UserError, match=r"task\.counts: the source has objects, which ordinal classification counts\."):
        TASK.settle(objects("a"), 4, 4, RULES)


@pytest.mark.parametrize(
    ("options", "found", "expected"),
    [
        ({}, ["10", "2", "-1"], ["-1", "2", "10"]),
        ({}, ["1.5", "1.25", "0"], ["0", "1.25", "1.5"]),
        ({}, ["grade 10", "grade 9"], ["grade 9", "grade 10"]),
        ({"order": ("mild", "moderate", "severe")}, ["severe", "mild"], ["mild", "severe"]),
        ({"counts": (2, 12)}, ["12+", "2-11", "0-1"], ["0-1", "2-11", "12+"]),
    ],
)
def test_classes_come_in_their_order(options: dict[str, Any], found: list[str], expected: list[str]):
    assert Config(**options).classes(iter(found)) == expected


@pytest.mark.parametrize(
    ("options", "found", "words"),
    [
        ({"order": ("mild", "severe")}, ["sever", "mild"], r"task\.order: the source has the class 'sever'"),
        ({"order": ("mild", "severe")}, ["sever", "mild"], r"Did you mean 'severe'"),
        (
            {"counts": (2,)},
            ["cat", "0-1"],
            r"task\.counts: the source has the class 'cat', which is not among 0-1, 2\+",
        ),
        ({"counts": (2,), "of": "RBCC"}, ["0-1"], r"one range of 'RBCC' alone occurs; every picture has 0-1\."),
        ({}, ["1"], r"needs images of two classes or more; 1 of them\."),
    ],
)
def test_classes_that_do_not_fit_are_refused(options: dict[str, Any], found: list[str], words: str):
    with pytest.raises(UserError, match=words):
        Config(**options).classes(found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"counts": (10, 10)}, r"expected ascending numbers above 0, as in \[10, 20\]; found \[10, 10\]"),
        ({"counts": (0, 1)}, r"expected ascending numbers above 0"),
        ({"order": ("a", "b", "a")}, "the class 'a' stands there twice"),
        ({"order": ("a", "b"), "counts": (1,)}, "leave one of them out"),
        ({"of": "cell"}, "of says what is counted, but counts is empty"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], words: str):
    with pytest.raises(ValidationError, match=words):
        Config(**options)


def test_told_in_words_bars_and_plain_values():
    outputs = np.log(np.array([[0.2, 0.3, 0.5]], np.float32))
    (told,) = TASK.told(outputs, Views(np.arange(1), np.zeros((1, 4)), np.full((1, 2), 4), 4))
    classes = ["1", "2", "3"]
    assert told == pytest.approx([0.2, 0.3, 0.5], abs=1e-7)
    assert TASK.marks(np.array([0.2, 0.3, 0.5]), classes).words == "2 30.0%"
    assert TASK.marks(np.array([0.2, 0.3, 0.5]), classes).bars == [("1", 0.2), ("2", 0.3), ("3", 0.5)]
    assert TASK.plain(np.array([0.2, 0.3, 0.5]), classes) == {
        "label": "2",
        "probability": 0.3,
        "grade": 1,
        "probabilities": {"1": 0.2, "2": 0.3, "3": 0.5},
    }
    assert TASK.truth({"label": 2}, None, classes).words == "3"


def test_a_blind_answer_is_the_median_of_the_training_images():
    blind = TASK.blind(FakeSplit(["1", "2", "3"], [0, 2, 2, 1, 1, 0, 0]), FakeSplit(["1", "2", "3"], [2, 0]))
    assert blind.predicted.tolist() == [1, 1] and blind.labels.tolist() == [2, 0]
    assert plain("quadratic_kappa", blind) == pytest.approx(0)
    assert TASK.columns("2", ["1", "2"]) == {"label": 1} and TASK.stratum("2") == "2" and TASK.tally("2") == {"2": 1}
