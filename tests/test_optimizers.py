"""Every file in pipeline/optimizers/ meets one contract; single steps are worked out by hand."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.plugin import config_class, names
from pipeline.training import OptimizerConfig


def optimizer(name: str, **options: object) -> OptimizerConfig:
    return config_class("optimizers", name)(**options)


def weight(*values: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values))


def groups(decayed: list[nn.Parameter], spared: list[nn.Parameter]) -> list[dict[str, Any]]:
    return [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]


def step(stepper: Optimizer, *weights: nn.Parameter, gradient: float) -> None:
    for each in weights:
        each.grad = torch.full_like(each, gradient)
    stepper.step()


@pytest.mark.parametrize("name", names("optimizers"))
def test_finds_the_bottom_of_a_bowl(name: str) -> None:
    place = weight(3.0, -2.0)
    stepper = optimizer(name, lr=0.05, weight_decay=0.0).build([{"params": [place]}])
    bottom, steepness = torch.tensor([1.0, 0.5]), torch.tensor([1.0, 10.0])
    for _ in range(400):
        stepper.zero_grad()
        (steepness * (place - bottom) ** 2).sum().backward()
        stepper.step()
    assert place.detach().tolist() == pytest.approx([1.0, 0.5], abs=1e-3)


@pytest.mark.parametrize("name", names("optimizers"))
def test_decay_shrinks_the_first_group_and_spares_the_second(name: str) -> None:
    decayed, spared = weight(1.0), weight(1.0)
    stepper = optimizer(name, lr=0.1, weight_decay=0.5).build(groups([decayed], [spared]))
    step(stepper, decayed, spared, gradient=0.0)
    assert decayed.item() < 1
    assert spared.item() == 1


@pytest.mark.parametrize("name", names("optimizers"))
def test_the_rate_of_every_group_is_the_option(name: str) -> None:
    stepper = optimizer(name, lr=0.0125).build(groups([weight(1.0)], [weight(1.0)]))
    assert [group["lr"] for group in stepper.param_groups] == [0.0125, 0.0125]


@pytest.mark.parametrize("name", names("optimizers"))
def test_saved_and_restored_it_goes_on_bit_for_bit(name: str) -> None:
    def go(place: nn.Parameter, stepper: Optimizer, steps: range) -> None:
        for index in steps:
            step(stepper, place, gradient=(index + 1) / 7)

    config = optimizer(name)
    whole, parted = weight(1.0, 2.0), weight(1.0, 2.0)
    go(whole, config.build([{"params": [whole]}]), range(10))
    first = config.build([{"params": [parted]}])
    go(parted, first, range(4))
    second = config.build([{"params": [parted]}])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    go(parted, second, range(4, 10))
    assert torch.equal(whole, parted)


@pytest.mark.parametrize("name", names("optimizers"))
@pytest.mark.parametrize("lr", [0, -0.1, float("inf"), float("nan")])
def test_a_rate_that_cannot_learn_is_refused(name: str, lr: float) -> None:
    with pytest.raises(ValueError, match="lr"):
        optimizer(name, lr=lr)


def test_adamw_by_hand() -> None:
    # step 1: decay first, 2 * (1 - 0.1 * 0.5) = 1.9; both corrected means are the gradient, so the step is lr * sign
    # step 2, gradient 1: m = (0.9 * 0.1 * 4 + 0.1) / 0.19, v = (0.99 * 0.01 * 16 + 0.01) / 0.0199
    place = weight(2.0)
    stepper = optimizer("adamw", lr=0.1, weight_decay=0.5, betas=(0.9, 0.99)).build([{"params": [place]}])
    step(stepper, place, gradient=4.0)
    assert place.item() == pytest.approx(1.8, abs=1e-6)
    step(stepper, place, gradient=1.0)
    mean, square = (0.9 * 0.1 * 4 + 0.1) / 0.19, (0.99 * 0.01 * 16 + 0.01) / 0.0199
    assert place.item() == pytest.approx(1.8 * 0.95 - 0.1 * mean / square**0.5, abs=1e-6)


@pytest.mark.parametrize(("nesterov", "second"), [(False, 1.5), (True, 1 + 0.5 * 1.5)])
def test_sgd_by_hand(nesterov: bool, second: float) -> None:
    # gradient 1 twice, momentum 0.5: velocities 1 and 1.5; Nesterov steps by 1 + 0.5 v
    first = 1.5 if nesterov else 1.0
    place = weight(0.0)
    part = optimizer("sgd", lr=0.1, momentum=0.5, nesterov=nesterov, weight_decay=0.0)
    stepper = part.build([{"params": [place]}])
    step(stepper, place, gradient=1.0)
    assert place.item() == pytest.approx(-0.1 * first)
    step(stepper, place, gradient=1.0)
    assert place.item() == pytest.approx(-0.1 * (first + second))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adamw", lambda w: torch.optim.AdamW(w, lr=0.01, weight_decay=0.1, betas=(0.8, 0.95))),
        ("sgd", lambda w: torch.optim.SGD(w, lr=0.01, weight_decay=0.1, momentum=0.7, nesterov=True)),
    ],
)
def test_options_reach_torch(name: str, reference: Any) -> None:
    own = {"adamw": {"betas": (0.8, 0.95)}, "sgd": {"momentum": 0.7}}[name]
    ours, theirs = weight(1.0, -2.0, 3.0), weight(1.0, -2.0, 3.0)
    steppers = optimizer(name, lr=0.01, weight_decay=0.1, **own).build([{"params": [ours]}]), reference([theirs])

    def cost(place: Tensor) -> Tensor:
        return (place**2).sum() + place.prod()

    for _ in range(20):
        for place, stepper in zip((ours, theirs), steppers, strict=True):
            stepper.zero_grad()
            cost(place).backward()
            stepper.step()
    assert torch.equal(ours, theirs)


def test_looking_ahead_needs_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov needs momentum > 0; set nesterov to false or momentum to 0.9"):
        optimizer("sgd", momentum=0.0)
    assert optimizer("sgd", momentum=0.0, nesterov=False).build([{"params": [weight(1.0)]}])
