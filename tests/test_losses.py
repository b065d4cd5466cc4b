"""Every file in pipeline/losses/ meets one contract; the numbers are by hand, or torch's and scikit-learn's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import Output, Target
from pipeline.errors import UserError
from pipeline.losses._class_weights import class_weights
from pipeline.plugin import config_class, names

LABELS = [name for name in names("losses") if (Output.VECTOR, Target.LABEL) in config_class("losses", name).takes]
MASKS = [name for name in names("losses") if (Output.MAP, Target.MASK) in config_class("losses", name).takes]
WEIGHTED = [name for name in names("losses") if "class_weights" in config_class("losses", name).model_fields]


def loss(name: str, counts: Sequence[int] = (5, 5, 5), **options: Any) -> nn.Module:
    return config_class("losses", name)(**options).build(counts, len(counts))


def uneven(name: str) -> nn.Module:
    """The loss for classes of 8, 1 and 4 images, weighted where it can be."""
    options = {"class_weights": "balanced"} if name in WEIGHTED else {}
    return loss(name, (8, 1, 4), **options).double()


def logits_of(*rows: Sequence[float]) -> Tensor:
    """Logits whose softmax is these probabilities."""
    return torch.tensor(rows).log()


def sample(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits [*shape] and targets for them, of three classes."""
    random = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (shape[0], *shape[2:]), generator=random)
    return torch.randn(shape, generator=random, dtype=torch.float64), targets


@pytest.mark.parametrize("name", LABELS)
def test_better_answers_cost_less_and_never_below_zero(name: str) -> None:
    right = torch.tensor([0])
    costs = [loss(name)(logits_of([p, (1 - p) / 2, (1 - p) / 2]), right).item() for p in (0.05, 0.3, 0.6, 0.9, 0.99)]
    assert costs == sorted(costs, reverse=True)
    assert min(costs) >= 0


@pytest.mark.parametrize("name", LABELS)
def test_order_of_the_batch_does_not_matter(name: str) -> None:
    logits, targets = sample(10, 3)
    order = torch.randperm(10)
    weighted = uneven(name)
    assert weighted(logits[order], targets[order]).item() == pytest.approx(weighted(logits, targets).item(), rel=1e-12)


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extremes_stay_finite_with_their_gradients(name: str, size: float) -> None:
    logits = torch.tensor([[size, -size, 0.0], [-size, size, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    cost = loss(name)(logits, torch.tensor([0, 0, 1]))
    cost.backward()
    assert torch.isfinite(cost)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LABELS)
def test_gradient_is_the_numeric_one(name: str) -> None:
    logits, targets = sample(6, 3)
    part = uneven(name)
    assert torch.autograd.gradcheck(lambda x: part(x, targets), logits.requires_grad_())


@pytest.mark.parametrize("name", MASKS)
def test_a_map_costs_what_its_pixels_cost_as_a_batch(name: str) -> None:
    maps, masks = sample(2, 3, 4, 5)
    part = uneven(name)
    pixels = maps.permute(0, 2, 3, 1).reshape(-1, 3)
    assert part(maps, masks).item() == pytest.approx(part(pixels, masks.flatten()).item(), rel=1e-12)


@pytest.mark.parametrize("name", WEIGHTED)
def test_equal_weights_change_nothing(name: str) -> None:
    logits, targets = sample(10, 3)
    plain = loss(name)(logits.float(), targets).item()
    assert loss(name, class_weights=[2, 2, 2])(logits.float(), targets).item() == pytest.approx(plain)
    assert loss(name, (7, 7, 7), class_weights="balanced")(logits.float(), targets).item() == pytest.approx(plain)


@pytest.mark.parametrize("name", WEIGHTED)
def test_a_weighted_mean_by_hand(name: str) -> None:
    # class 0 counts three times: (3 * cost of the first + 1 * cost of the second) / 4
    logits, targets = logits_of([0.5, 0.25, 0.25], [0.2, 0.2, 0.6]), torch.tensor([0, 2])
    costs = [loss(name)(logits[i : i + 1], targets[i : i + 1]).item() for i in (0, 1)]
    weighted = loss(name, class_weights=[3, 5, 1])(logits, targets).item()
    assert weighted == pytest.approx((3 * costs[0] + costs[1]) / 4)


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("given", ["balancd", [1, 0], [1, -2.0], [1, float("inf")], [1, "a"], None, 3, [True, 1], {}])
def test_class_weights_of_another_form_are_refused_in_one_message(name: str, given: object) -> None:
    with pytest.raises(ValidationError) as caught:
        loss(name, class_weights=given)
    (problem,) = caught.value.errors()
    expected = "expected none, balanced, or a list of one weight > 0 per class, as in [1, 2.5]; found "
    assert problem["msg"] == f"Value error, {expected}{given!r}"


@pytest.mark.parametrize("name", WEIGHTED)
def test_too_few_class_weights(name: str) -> None:
    expected = "params.yaml: loss.class_weights: 2 weights for 3 classes: give one per class"
    with pytest.raises(UserError, match=expected):
        loss(name, class_weights=[1, 2])


@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_move_with_the_loss(name: str) -> None:
    assert loss(name, class_weights=[1, 2, 3]).double()(*sample(4, 3)).dtype == torch.float64


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    counts = (40, 7, 1)
    reference = compute_class_weight("balanced", classes=np.arange(3), y=np.repeat(np.arange(3), counts))
    assert class_weights("balanced", counts).tolist() == pytest.approx(reference.tolist())


def test_a_class_without_images_weighs_as_much_as_one_of_average_size() -> None:
    assert class_weights("balanced", (6, 0, 3)).tolist() == pytest.approx([0.5, 1.0, 1.0])


def test_cross_entropy_by_hand() -> None:
    cost = loss("cross_entropy")(logits_of([0.5, 0.25, 0.25], [0.1, 0.1, 0.8]), torch.tensor([0, 1]))
    assert cost.item() == pytest.approx((math.log(2) + math.log(10)) / 2)


def test_label_smoothing_by_hand() -> None:
    # 0.3 of the target is spread over three classes: 0.8, 0.1, 0.1
    cost = loss("cross_entropy", label_smoothing=0.3)(logits_of([0.5, 0.25, 0.25]), torch.tensor([0]))
    assert cost.item() == pytest.approx(0.8 * math.log(2) + 0.2 * math.log(4))


def test_focal_by_hand() -> None:
    # (1 - 0.5)^2 * ln 2 and (1 - 0.1)^2 * ln 10
    cost = loss("focal", gamma=2)(logits_of([0.5, 0.25, 0.25], [0.1, 0.1, 0.8]), torch.tensor([0, 1]))
    assert cost.item() == pytest.approx((0.25 * math.log(2) + 0.81 * math.log(10)) / 2)


def test_focal_without_fading_is_cross_entropy() -> None:
    logits, targets = sample(20, 3)
    weights = [0.5, 1, 4]
    reference = F.cross_entropy(logits, targets, weight=torch.tensor(weights).double())
    cost = loss("focal", gamma=0, class_weights=weights).double()(logits, targets)
    assert cost.item() == pytest.approx(reference.item())


def test_focal_is_that_of_torchvision_for_two_classes() -> None:
    from torchvision.ops import sigmoid_focal_loss

    # two logits are one difference: softmax over (a, b) is the sigmoid of b - a
    logits, targets = torch.randn(12, 2), torch.randint(2, (12,))
    reference = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], targets.float(), alpha=-1, gamma=1.5, reduction="mean")
    assert loss("focal", (6, 6), gamma=1.5)(logits, targets).item() == pytest.approx(reference.item(), rel=1e-5)


@pytest.mark.parametrize("gamma", [0, 0.1, 0.5, 1, 5])
def test_focal_has_a_slope_where_the_answer_is_certain(gamma: float) -> None:
    logits = torch.tensor([[100.0, 0.0], [0.0, 100.0]], requires_grad=True)
    loss("focal", (1, 1), gamma=gamma)(logits, torch.tensor([0, 0])).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[1].abs().sum() > 0.5
