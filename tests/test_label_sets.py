"""Any number of classes per image: answers, metrics, losses and the task, by hand and against scikit-learn."""

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
from torch.nn import functional as F

from pipeline.annotations import Objects, Thing
from pipeline.answers._ranking import best_threshold, precision_at
from pipeline.answers.label_sets import LabelSetAnswers
from pipeline.contracts import AnnotationRules, MetricConfig, Output, Target, Views
from pipeline.errors import UserError
from pipeline.plugin import config_class, names
from pipeline.tasks.multi_label import Config

OF_OTHERS = "default::pytest.PytestUnraisableExceptionWarning"
"""A socket that a test before left open is told while this one runs, and is no warning of what it is about."""
METRICS = [name for name in names("metrics") if Target.LABELS in config_class("metrics", name).takes]
LOSSES = [name for name in names("losses") if (Output.VECTOR, Target.LABELS) in config_class("losses", name).takes]
TASK = Config()
RULES = AnnotationRules()

# Four images of three classes. Said: a+b, nothing, c, a+c. True: a, nothing, b, a+b.
FOUR = LabelSetAnswers(
    ["a", "b", "c"],
    np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 1, 0]], bool),
    np.array([[0.9, 0.6, 0.1], [0.2, 0.4, 0.3], [0.1, 0.3, 0.7], [0.8, 0.2, 0.5]]),
    np.array([0.5, 0.5, 0.5]),
)


def answers(images: int, classes: int, seed: int, digits: int = 2) -> LabelSetAnswers:
    """Probabilities that are often right, with many ties; every class has images, and some images have no class."""
    random = np.random.default_rng(seed)
    truth = random.random((images, classes)) < 0.3
    truth[:classes] |= np.eye(classes, dtype=bool)
    probabilities = np.clip(random.normal(0.35 + 0.3 * truth, 0.2), 0, 1).round(digits)
    return LabelSetAnswers([str(k) for k in range(classes)], truth, probabilities, random.uniform(0.3, 0.7, classes))


def metric(name: str) -> MetricConfig:
    return config_class("metrics", name)()


def plain(name: str, told: LabelSetAnswers) -> float:
    return float(metric(name).score(told, np.ones((1, len(told))))[0])


# answers


def test_quality_is_the_share_of_common_classes_by_hand():
    assert FOUR.quality == pytest.approx([1 / 2, 1, 0, 1 / 3])
    assert FOUR.graded
    assert FOUR.confidence == pytest.approx([0.6, 0.6, 0.7, 0.5])
    assert FOUR.losses[2] == pytest.approx(-(math.log(0.9) + math.log(0.3) + math.log(0.3)) / 3)
    present, quality = FOUR.by_class
    assert present.sum(axis=0).tolist() == [2, 2, 0]
    assert (quality * present).sum(axis=0).tolist() == [2, 0, 0]


def test_losses_stay_finite_where_the_answer_is_certain_and_wrong():
    certain = LabelSetAnswers(["a"], np.array([[True], [False]]), np.array([[0.0], [1.0]]), np.array([0.5]))
    assert np.isfinite(certain.losses).all() and (certain.losses > 700).all()
    assert certain.worst(9) == [0, 1]


def test_confusion_counts_what_stands_in_place_of_what():
    # image 0: a is right, b is invented; 1: nothing; 2: b is missed, c invented; 3: a is right, b missed, c invented
    confusion = FOUR.confusion()
    assert confusion.names == ["a", "b", "c", "nothing"] and confusion.unit == "labels"
    assert confusion.counts.tolist() == [[2, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0], [0, 1, 0, 1]]
    missed = LabelSetAnswers(["a", "nothing"], np.array([[1, 1]], bool), np.array([[0.9, 0.1]]), np.array([0.5, 0.5]))
    assert missed.confusion().names == ["a", "nothing", "(nothing)"]
    assert missed.confusion().counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_class_table_by_hand():
    header, rows = FOUR.class_table()
    assert header == ("class", "images", "precision", "recall", "f1", "threshold", "average_precision")
    assert rows[0] == ("a", 2, 1.0, 1.0, 1.0, 0.5, 1.0)
    assert rows[1][:6] == ("b", 2, 0.0, 0.0, 0.0, 0.5)
    assert rows[1][6] == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert rows[2][:6] == ("c", 0, 0.0, 0.0, 0.0, 0.5) and math.isnan(float(rows[2][6]))


def test_what_is_said_and_true_in_words_and_bars():
    assert [FOUR.said(place).words for place in range(4)] == ["a, b", "nothing", "c", "a, c"]
    assert [FOUR.true(place).words for place in range(4)] == ["a", "nothing", "b", "a, b"]
    assert FOUR.said(2).bars == [("c", 0.7), ("b", 0.3), ("a", 0.1)]
    unsure = LabelSetAnswers(["a", "b"], np.zeros((1, 2), bool), np.array([[0.01, 0.02]]), np.array([0.5, 0.5]))
    assert unsure.said(0).bars == [("b", 0.02)]


def test_columns_bring_them_back_and_others_are_refused():
    tuned = LabelSetAnswers(FOUR.classes, FOUR.truth, FOUR.probabilities / 2, np.array([0.4, 0.2, 0.3]))
    again = FOUR.again(pa.table(tuned.columns()))
    assert (again.probabilities == tuned.probabilities).all() and (again.thresholds == tuned.thresholds).all()
    assert (again.quality == tuned.quality).all()
    assert FOUR.difference(tuned) == pytest.approx([0.45, 0.2, 0.35, 0.4])
    assert FOUR.at([3, 0]).quality == pytest.approx([1 / 3, 1 / 2])
    for other in (pa.table({"x": [1] * 4}), pa.table(FOUR.at([0]).columns()), pa.table({"probabilities": [[1.0]] * 4})):
        with pytest.raises(ValueError, match="expected probabilities and thresholds of 3 classes for 4 images"):
            FOUR.again(other)


def test_the_best_threshold_is_that_of_scikit_learns_curve():
    told = answers(200, 5, seed=3)
    for k, threshold in enumerate(told.best_thresholds().tolist()):
        precision, recall, _ = reference.precision_recall_curve(told.truth[:, k], told.probabilities[:, k])
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-9)).max()
        assert reference.f1_score(told.truth[:, k], told.probabilities[:, k] >= threshold) == pytest.approx(best)


def test_rare_classes_have_one_threshold_together():
    told = answers(40, 4, seed=6)
    truth = told.truth & (np.cumsum(told.truth, axis=0) <= [99, 99, 4, 4])
    rare = LabelSetAnswers(told.classes, truth, told.probabilities, told.thresholds).best_thresholds()
    assert rare[:2].tolist() == told.best_thresholds()[:2].tolist()
    both = best_threshold(told.probabilities[:, 2:].ravel(), truth[:, 2:].ravel(), 0.5)
    assert rare[2:].tolist() == [both, both]
    none = LabelSetAnswers(["a"], np.zeros((3, 1), bool), np.full((3, 1), 0.2), np.zeros(1))
    assert none.best_thresholds().tolist() == [0.5]


def test_the_best_threshold_by_hand():
    scores, positive = np.array([0.9, 0.7, 0.4, 0.3]), np.array([True, False, True, False])
    assert best_threshold(scores, positive, 0.5) == pytest.approx((0.4 + 0.3) / 2)  # F1 0.8, above it 2/3
    assert best_threshold(scores, np.zeros(4, bool), 0.5) == 0.5
    assert best_threshold(np.full(4, 0.3), positive, 0.5) == 0.15
    # a cut above the first and one above the fourth are equally good: the nearer to a half
    assert best_threshold(scores, np.array([True, False, False, False]), 0.5) == pytest.approx(0.8)


def test_the_precision_recall_curve_is_scikit_learns():
    told = answers(150, 1, seed=4)
    precision, recall, _ = reference.precision_recall_curve(told.truth[:, 0], told.probabilities[:, 0])
    recalls = np.linspace(0, 1, 11)
    expected = [precision[recall >= wanted - 1e-9].max() if wanted else precision[:-1].max() for wanted in recalls]
    assert precision_at(told.probabilities[:, 0], told.truth[:, 0], recalls) == pytest.approx(expected)


def test_curves_and_none_without_classes():
    titles = [curve.title for curve in FOUR.curves()]
    assert titles == ["Probability and truth", "Precision and recall"]
    reliability = FOUR.curves()[0]
    assert sum(reliability.sizes) == 12
    (there,) = [y for x, y in reliability.series[0][1] if x == pytest.approx(4.5 / 15)]
    assert there == 1 / 2  # of 0.3 and 0.3
    empty = LabelSetAnswers(["a"], np.zeros((2, 1), bool), np.full((2, 1), 0.2), np.array([0.5]))
    assert [curve.title for curve in empty.curves()] == ["Probability and truth"]


# metrics


def average_precision(told: LabelSetAnswers, weights: np.ndarray) -> float:
    return reference.average_precision_score(told.truth, told.probabilities, average="macro", sample_weight=weights)


REFERENCES: dict[str, Any] = {
    "mean_average_precision": average_precision,
    "roc_auc": lambda told, w: reference.roc_auc_score(
        told.truth, told.probabilities, average="macro", sample_weight=w
    ),
    "multi_label_f1": lambda told, w: reference.f1_score(
        told.truth, told.chosen, average="macro", sample_weight=w, zero_division=np.nan
    ),
    "multi_label_f1_micro": lambda told, w: reference.f1_score(
        told.truth, told.chosen, average="micro", sample_weight=w
    ),
    "label_jaccard": lambda told, w: reference.jaccard_score(
        told.truth, told.chosen, average="samples", sample_weight=w, zero_division=1
    ),
}


def test_every_metric_has_a_reference() -> None:
    assert set(METRICS) == set(REFERENCES)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("name", REFERENCES)
def test_equals_scikit_learn_plain_and_weighted(name: str, classes: int):
    told = answers(120, classes, seed=classes)
    weights = np.random.default_rng(1).gamma(1.0, size=(4, len(told)))
    weights = np.concatenate([np.ones((1, len(told))), weights])
    expected = [REFERENCES[name](told, row) for row in weights]
    assert metric(name).score(told, weights) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_whole_numbers_weigh_like_repeated_images(name: str):
    told = answers(50, 4, seed=2)
    counts = np.random.default_rng(3).integers(4, size=(5, len(told)))
    counts[4] = np.where(told.truth[:, 0], 0, counts[4])  # a class falls out of the resample
    repeated = [plain(name, told.at(np.repeat(np.arange(len(told)), row))) for row in counts]
    assert metric(name).score(told, counts.astype(float)) == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_neither_order_nor_scale_of_the_weights_matters(name: str):
    told = answers(60, 3, seed=4)
    weights = np.random.default_rng(5).gamma(1.0, size=(3, len(told)))
    order = np.random.default_rng(6).permutation(len(told))
    shuffled = metric(name).score(told.at(order), weights[:, order] / 2)
    assert shuffled == pytest.approx(metric(name).score(told, weights), abs=1e-12)


@pytest.mark.filterwarnings("error", OF_OTHERS)
@pytest.mark.parametrize("name", METRICS)
def test_certain_answers_score_best_and_worst_and_nothing_is_undefined(name: str):
    truth = np.eye(3, dtype=bool)[np.arange(9) % 3]
    cuts = np.full(3, 0.5)
    best = LabelSetAnswers(["a", "b", "c"], truth, truth.astype(float), cuts)
    worst = LabelSetAnswers(["a", "b", "c"], truth, 1.0 - truth, cuts)
    assert plain(name, best) == 1 and plain(name, worst) < 0.5
    assert np.isnan(metric(name).score(best, np.zeros((2, 9)))).all()
    assert np.isnan(metric(name).score(best.at([]), np.ones((2, 0)))).all()
    bare = LabelSetAnswers(["a"], np.zeros((3, 1), bool), np.full((3, 1), 0.2), np.array([0.5]))
    assert plain(name, bare) == 1 if name == "label_jaccard" else math.isnan(plain(name, bare))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean_average_precision", (1 + (1 / 3 + 2 / 4) / 2) / 2),
        ("roc_auc", (1 + 0 / 4) / 2),
        ("multi_label_f1", (1 + 0 + 0) / 3),
        ("multi_label_f1_micro", 2 * 2 / (4 + 5)),
        ("label_jaccard", (1 / 2 + 1 + 0 + 1 / 3) / 4),
    ],
)
def test_metrics_by_hand(name: str, expected: float):
    assert plain(name, FOUR) == pytest.approx(expected)


# losses


def loss(name: str, counts: tuple[int, ...] = (5, 5), **options: Any) -> nn.Module:
    return config_class("losses", name)(**options).build(counts, len(counts))


def logit(*shares: float) -> Tensor:
    """Logits whose sigmoid is these probabilities, as one row."""
    return torch.tensor([shares], dtype=torch.float64).logit()


def sample(images: int, classes: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    targets = torch.randint(2, (images, classes), generator=random).to(torch.uint8)
    return torch.randn((images, classes), generator=random, dtype=torch.float64), targets


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("present", [0, 1])
def test_better_answers_cost_less_and_never_below_zero(name: str, present: int) -> None:
    target = torch.tensor([[present, 1 - present]], dtype=torch.uint8)
    shares = (0.03, 0.3, 0.6, 0.9)
    told = [logit(p, 1 - p) if present else logit(1 - p, p) for p in shares]
    costs = [loss(name).double()(one, target).item() for one in told]
    assert costs == sorted(costs, reverse=True) and len(set(costs)) == 4
    assert min(costs) >= 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extremes_stay_finite_with_their_gradients(name: str, size: float) -> None:
    logits = torch.tensor([[size, -size], [-size, size], [0.0, 0.0]], requires_grad=True)
    cost = loss(name)(logits, torch.tensor([[1, 0], [1, 0], [0, 0]], dtype=torch.uint8))
    cost.backward()
    assert torch.isfinite(cost) and torch.isfinite(logits.grad).all()
    sure = logits.detach()[:1].requires_grad_()
    loss(name)(sure, torch.tensor([[1, 0]], dtype=torch.uint8)).backward()
    assert sure.grad.abs().max() < 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_the_numeric_one_and_order_does_not_matter(name: str) -> None:
    logits, targets = sample(3, 2)
    part = loss(name).double()
    assert torch.autograd.gradcheck(lambda x: part(x, targets), logits.requires_grad_())
    order = torch.randperm(3)
    assert part(logits[order], targets[order]).item() == pytest.approx(part(logits, targets).item(), rel=1e-12)


def test_binary_cross_entropy_by_hand() -> None:
    target = torch.tensor([[1, 0]], dtype=torch.uint8)
    cost = loss("binary_cross_entropy").double()(logit(0.5, 0.8), target)
    assert cost.item() == pytest.approx((math.log(2) + math.log(5)) / 2)
    # 0.2 of the target is spread over yes and no: 0.9 yes and 0.1 no, and the other way round
    smooth = loss("binary_cross_entropy", label_smoothing=0.2).double()(logit(0.5, 0.8), target)
    assert smooth.item() == pytest.approx((math.log(2) + 0.9 * math.log(5) + 0.1 * math.log(1 / 0.8)) / 2)
    weighted = loss("binary_cross_entropy", positive_weights=[3, 7]).double()(logit(0.5, 0.8), target)
    assert weighted.item() == pytest.approx((3 * math.log(2) + math.log(5)) / 2)


def test_balanced_positives_of_every_class_have_the_same_say() -> None:
    # 8 and 2 images: weights 10 / (2 * 8) and 10 / (2 * 2)
    logits, targets = sample(12, 2)
    expected = F.binary_cross_entropy_with_logits(logits, targets.double(), pos_weight=torch.tensor([0.625, 2.5]))
    balanced = loss("binary_cross_entropy", (8, 2), positive_weights="balanced").double()
    assert balanced(logits, targets).item() == pytest.approx(expected.item())


def test_weights_of_another_form_are_refused() -> None:
    with pytest.raises(ValidationError, match="expected none, balanced, or a list of one weight > 0 per class"):
        loss("binary_cross_entropy", positive_weights="many")
    with pytest.raises(UserError, match=r"params\.yaml: loss\.positive_weights: 3 weights for 2 classes: give one per"):
        loss("binary_cross_entropy", positive_weights=[1, 2, 3])


def test_focal_is_torchvisions_and_binary_cross_entropy_without_fading() -> None:
    from torchvision.ops import sigmoid_focal_loss

    logits, targets = sample(9, 4)
    expected = sigmoid_focal_loss(logits, targets.double(), alpha=-1, gamma=1.5, reduction="mean")
    counts = (5, 5, 5, 5)
    assert loss("focal", counts, gamma=1.5).double()(logits, targets).item() == pytest.approx(expected.item())
    unfaded = loss("focal", counts, gamma=0).double()(logits, targets).item()
    assert unfaded == pytest.approx(loss("binary_cross_entropy", counts).double()(logits, targets).item())


def test_focal_with_class_weights_by_hand() -> None:
    # 0.5^2 ln 2 counts three times, 0.8^2 ln 5 once
    weighted = loss("focal", class_weights=[3, 1]).double()
    cost = weighted(logit(0.5, 0.8), torch.tensor([[1, 0]], dtype=torch.uint8))
    assert cost.item() == pytest.approx((3 * 0.25 * math.log(2) + 0.64 * math.log(5)) / 4)


def test_asymmetric_by_hand() -> None:
    # present at 0.6: 0.4^1 * -ln 0.6; absent at 0.3, shifted to 0.2: 0.2^2 * -ln 0.8; absent at 0.05: nothing
    part = loss("asymmetric", (5, 5, 5), gamma_pos=1, gamma_neg=2, clip=0.1).double()
    cost = part(logit(0.6, 0.3, 0.05), torch.tensor([[1, 0, 0]], dtype=torch.uint8))
    assert cost.item() == pytest.approx((-0.4 * math.log(0.6) - 0.04 * math.log(0.8)) / 3)


def test_asymmetric_without_asymmetry_is_focal() -> None:
    logits, targets = sample(8, 2)
    same = loss("asymmetric", gamma_pos=2, gamma_neg=2, clip=0).double()(logits, targets).item()
    assert same == pytest.approx(loss("focal", gamma=2).double()(logits, targets).item())


# the task


class FakeSplit:
    """What a task asks of a split, without one on disk."""

    def __init__(self, classes: list[str], label_sets: Any) -> None:
        self.classes, self.label_sets = classes, np.array(label_sets, bool)
        self.dataset = SimpleNamespace(info=SimpleNamespace(classes=classes))

    def __len__(self) -> int:
        return len(self.label_sets)


def test_a_set_comes_of_names_of_one_name_and_of_objects():
    things = (Thing("b", (0, 0, 0, 0)), Thing("a", (0, 0, 9, 9), crowd=True), Thing("b", (1, 1, 2, 2)))
    said = [frozenset({"a", "b"}), "a", Objects(things), Objects(()), frozenset[str]()]
    settled = [TASK.settle(one, 4, 4, RULES).annotation for one in said]
    assert settled == [{"a", "b"}, {"a"}, {"a", "b"}, set(), set()]
    assert TASK.tally(settled[0]) == {"a": 1, "b": 1} and TASK.stratum(settled[0]) == ""
    assert TASK.joined([frozenset({"skirt"}), frozenset({"shorts"})]) == {"shorts", "skirt"}
    assert TASK.nothing == frozenset()


def test_columns_and_classes():
    assert TASK.classes(["b", "10", "2", "b"]) == ["2", "10", "b"]
    assert TASK.columns(frozenset({"c", "a"}), ["a", "b", "c"]) == {"labels": [0, 2]}
    assert TASK.columns(frozenset(), ["a"]) == {"labels": []}
    with pytest.raises(UserError, match="needs classes; the source names none in any usable picture"):
        TASK.classes([])
    with pytest.raises(UserError, match=r"task\.thresholds: no class is named 'catt'\. Did you mean 'cat'"):
        Config(thresholds={"catt": 0.5}).classes(["cat", "dog"])
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Config(thresholds={"cat": 1.5})


@pytest.mark.filterwarnings("error", OF_OTHERS)
def test_told_is_the_mean_of_the_sigmoid_at_any_scale():
    outputs = np.array([[0, np.log(3)], [1e30, -1e30], [-3e38, 3e38]], np.float32)
    whole = Views(np.arange(3), np.zeros((3, 4)), np.full((3, 2), 4), 4)
    assert np.stack(TASK.told(outputs, whole)) == pytest.approx(np.array([[0.5, 0.75], [1, 0], [0, 1]]), abs=1e-7)
    tiles = Views(np.array([0, 0, 1]), np.zeros((3, 4)), np.array([[8, 4], [4, 4]]), 4)
    assert np.stack(TASK.told(outputs, tiles)) == pytest.approx(np.array([[0.75, 0.375], [0, 1]]), abs=1e-7)


def test_thresholds_are_chosen_on_validation_unless_they_are_given():
    truth = np.array([[1, 1], [0, 1], [1, 0]] * 5, bool)
    known = LabelSetAnswers(["a", "b"], truth, np.tile(FOUR.probabilities[:3, :2], (5, 1)), np.zeros(2))
    tuned = Config(thresholds={"b": 0.9}).tuned(known)
    assert tuned.thresholds == {"a": pytest.approx(0.05), "b": 0.9}  # of 0.9, 0.2, 0.1 all: F1 0.8
    again = Config.model_validate(tuned.model_dump(mode="json"))
    assert again == tuned
    split = FakeSplit(["a", "b"], [[1, 0]])
    assert tuned.answers(split, [np.array([0.06, 0.8])]).chosen.tolist() == [[True, False]]
    assert TASK.answers(split, [np.array([0.06, 0.8])]).thresholds.tolist() == [0.5, 0.5]
    assert TASK.answers(FakeSplit(["a"], np.zeros((0, 1))), []).probabilities.shape == (0, 1)


def test_a_blind_answer_is_the_shares_of_the_training_images():
    train = FakeSplit(["a", "b", "c"], [[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]] * 5)
    blind = TASK.blind(train, FakeSplit(["a", "b", "c"], [[0, 1, 0], [1, 0, 0]]))
    assert blind.probabilities.tolist() == [[0.75, 0.25, 0]] * 2
    assert blind.chosen.tolist() == [[True, True, False]] * 2
    assert blind.truth.tolist() == [[False, True, False], [True, False, False]]


def test_told_classes_in_words_bars_and_plain_values():
    told, classes = np.array([0.125, 0.625, 0.25]), ["a", "b", "c"]
    task = Config(thresholds={"c": 0.2})
    assert task.marks(told, classes).words == "b, c"
    assert task.marks(told, classes).bars == [("b", 0.625), ("c", 0.25), ("a", 0.125)]
    plain_ = task.plain(told, classes)
    assert plain_ == {"labels": ["b", "c"], "probabilities": {"b": 0.625, "c": 0.25, "a": 0.125}}
    assert list(plain_["probabilities"]) == ["b", "c", "a"]
    assert task.truth({"labels": [0, 2]}, None, classes).words == "a, c"
    assert task.truth({"labels": []}, None, classes).words == "nothing"
