"""Every file in pipeline/optimizers/ meets one contract; single steps are worked out by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.optim
import torch
from ready_files import clashes
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.optimizers._newton_schulz import A, B, C, evened
from pipeline.plugin import config_class, names
from pipeline.training import Ascending, OptimizerConfig


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


ALIKE = {"muon": {"matrices_lr": 0.05, "vectors_lr": 0.05}}
"""Of a part with several rates, all but the first."""


@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 1, 1, 1)], ids=["vector", "matrix", "filters"])
@pytest.mark.parametrize("name", names("optimizers"))
def test_finds_the_bottom_of_a_bowl(name: str, shape: tuple[int, ...]) -> None:
    place = nn.Parameter(torch.tensor([3.0, -2.0]).view(shape))
    stepper = optimizer(name, lr=0.05, weight_decay=0.0, **ALIKE.get(name, {})).build([{"params": [place]}])
    bottom, steepness = torch.tensor([1.0, 0.5]).view(shape), torch.tensor([1.0, 10.0]).view(shape)
    rate = stepper.param_groups[0]["lr"]
    for index in range(600):
        for each in stepper.param_groups:  # some make steps of one length, and come to rest as their rate falls
            each["lr"] = rate * (1 - index / 600)
        slope(place, bottom, steepness)
        if isinstance(stepper, Ascending):
            stepper.ascend()
            slope(place, bottom, steepness)
        stepper.step()
    assert place.detach().flatten().tolist() == pytest.approx([1.0, 0.5], abs=1e-3)


def slope(place: nn.Parameter, bottom: Tensor, steepness: Tensor) -> None:
    """Leave the gradient of a bowl at this place."""
    place.grad = None
    (steepness * (place - bottom) ** 2).sum().backward()


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


KINDS = [(3,), (4, 3), (4, 2, 3, 3), ()]
"""Norms and biases, matrices, filters, a single number."""


def weights(*shapes: tuple[int, ...], layout: torch.memory_format = torch.contiguous_format) -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(0)
    drawn = (torch.randn(shape, generator=random) for shape in shapes)
    return [nn.Parameter(each.to(memory_format=layout) if each.ndim == 4 else each) for each in drawn]


def walk(stepper: Optimizer, moved: list[nn.Parameter], steps: range) -> None:
    """Learn from gradients that the step and the weights decide."""
    for index in steps:
        for place, each in enumerate(moved):
            random = torch.Generator().manual_seed(100 * index + place)
            gradient = (torch.randn(each.shape, generator=random) + each.detach()) * (1 + index % 3)
            each.grad = torch.empty_like(each.detach()).copy_(gradient)  # it lies as the weights do: autograd's promise
        if isinstance(stepper, Ascending):
            stepper.ascend()
        stepper.step()


@pytest.mark.parametrize("name", names("optimizers"))
def test_saved_and_restored_it_goes_on_bit_for_bit(name: str) -> None:
    config = optimizer(name)
    whole, parted = weights(*KINDS), weights(*KINDS)
    walk(config.build([{"params": whole}]), whole, range(10))
    first = config.build([{"params": parted}])
    walk(first, parted, range(4))
    second = config.build([{"params": parted}])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    walk(second, parted, range(4, 10))
    assert all(map(torch.equal, whole, parted))
    assert not any(map(torch.equal, whole, weights(*KINDS)))


@pytest.mark.parametrize("name", names("optimizers"))
def test_what_it_remembers_is_kept_without_pickles(name: str, tmp_path: Path) -> None:
    moved = weights(*KINDS)
    stepper = optimizer(name).build([{"params": moved}])
    walk(stepper, moved, range(2))
    torch.save(stepper.state_dict(), tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["param_groups"] == stepper.state_dict()["param_groups"]


@pytest.mark.parametrize("name", names("optimizers"))
def test_weights_without_a_gradient_stay_and_begin_later(name: str) -> None:
    frozen, alone = weights(*KINDS), weights(*KINDS)
    stepper = optimizer(name).build([{"params": [*frozen, other := weight(1.0)]}])
    walk(stepper, [other], range(5))
    assert all(map(torch.equal, frozen, weights(*KINDS)))
    other.grad = None
    walk(stepper, frozen, range(3))
    walk(optimizer(name).build([{"params": alone}]), alone, range(3))
    assert all(map(torch.equal, frozen, alone))


@pytest.mark.parametrize("name", names("optimizers"))
def test_the_layout_in_memory_makes_no_difference(name: str) -> None:
    rows, last = weights(*KINDS), weights(*KINDS, layout=torch.channels_last)
    for moved in (rows, last):
        walk(optimizer(name).build([{"params": moved}]), moved, range(5))
    for one, other in zip(rows, last, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert last[2].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", names("optimizers"))
def test_layers_may_thaw_one_after_the_other(name: str) -> None:
    early, late = weights(*KINDS), weights(*KINDS)
    stepper = optimizer(name).build([{"params": [*early, *late]}])
    walk(stepper, early, range(2))
    walk(stepper, [*early, *late], range(2, 3))
    fresh = weights(*KINDS)
    walk(optimizer(name).build([{"params": fresh}]), [*weights(*KINDS), *fresh], range(2, 3))
    if name != "sam":  # which climbs along the gradient over all weights
        assert all(map(torch.equal, late, fresh))
    assert not any(map(torch.equal, late, weights(*KINDS)))


@pytest.mark.parametrize("name", sorted({*names("optimizers")} - {"sam"}))  # which float16 is refused for
def test_a_step_that_float16_skips_leaves_no_trace(name: str) -> None:
    moved, reference = weights(*KINDS), weights(*KINDS)
    stepper, other = (optimizer(name).build([{"params": each}]) for each in (moved, reference))
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    for overflows in (True, False, True, False):
        for each in moved:
            each.grad = torch.full_like(each, torch.inf if overflows else 0.5)
        scaler.scale(torch.zeros(()))  # from here on it looks at gradients
        scaler.unscale_(stepper)
        scaler.step(stepper)
        scaler.update(1.0)
    for _ in range(2):
        for each in reference:
            each.grad = torch.full_like(each, 0.5)
        other.step()
    assert all(map(torch.equal, moved, reference))


@pytest.mark.parametrize("name", names("optimizers"))
def test_the_rate_of_a_group_is_taken_anew_each_step(name: str) -> None:
    near, far = weights(*KINDS), weights(*KINDS)
    for moved, share in ((near, 0.25), (far, 1.0)):
        stepper = optimizer(name, weight_decay=0.0).build([{"params": moved}])
        stepper.param_groups[0]["lr"] *= share
        walk(stepper, moved, range(1))
    for start, one, other in zip(weights(*KINDS), near, far, strict=True):
        torch.testing.assert_close(4 * (one - start), other - start, atol=1e-5, rtol=1e-4)


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


COMMON = {"lr": 0.01, "weight_decay": 0.1}


def reached(stepper: Optimizer, moved: list[nn.Parameter]) -> list[Tensor]:
    walk(stepper, moved, range(20))
    return [each.detach() for each in moved]


@pytest.mark.parametrize(
    ("name", "options", "reference"),
    [
        ("adamw", {"betas": (0.8, 0.95)}, lambda w: torch.optim.AdamW(w, betas=(0.8, 0.95), **COMMON)),
        ("sgd", {"momentum": 0.7}, lambda w: torch.optim.SGD(w, momentum=0.7, nesterov=True, **COMMON)),
        ("lion", {"betas": (0.8, 0.95)}, lambda w: timm.optim.Lion(w, betas=(0.8, 0.95), **COMMON)),
        # timm adapts norms where they decay, Convoy never: vector and number are left out
        ("lamb", {"betas": (0.8, 0.95)}, lambda w: timm.optim.Lamb(w, betas=(0.8, 0.95), max_grad_norm=None, **COMMON)),
    ],
)
def test_it_walks_where_another_implementation_does(name: str, options: dict[str, Any], reference: Any) -> None:
    shapes = KINDS[1:3] if name == "lamb" else KINDS
    ours, theirs = weights(*shapes), weights(*shapes)
    places = reached(optimizer(name, **COMMON, **options).build([{"params": ours}]), ours)
    for place, expected in zip(places, reached(reference(theirs), theirs), strict=True):
        torch.testing.assert_close(place, expected, atol=1e-6, rtol=1e-6)


def test_looking_ahead_needs_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov needs momentum > 0; set nesterov to false or momentum to 0.9"):
        optimizer("sgd", momentum=0.0)
    assert optimizer("sgd", momentum=0.0, nesterov=False).build([{"params": [weight(1.0)]}])
    with pytest.raises(ValueError, match="nesterov needs momentum > 0; set nesterov to false or momentum to 0.9"):
        optimizer("sam", momentum=0.0)


# --- lion


def test_lion_by_hand() -> None:
    # gradients 4, then -1: the first sign is +; the mean is 0.5 * 4 = 2, and 0.75 * 2 - 0.25 * 1 > 0 gives + again
    place = weight(2.0)
    stepper = optimizer("lion", lr=0.1, weight_decay=0.5, betas=(0.75, 0.5)).build([{"params": [place]}])
    step(stepper, place, gradient=4.0)
    assert place.item() == pytest.approx(2 * 0.95 - 0.1)
    step(stepper, place, gradient=-1.0)
    assert place.item() == pytest.approx(1.8 * 0.95 - 0.1)


# --- lamb


def test_lamb_by_hand() -> None:
    # Adam's first step is the sign, (1, 1) here, and decay adds half of (3, 4): (2.5, 3) of length sqrt(15.25);
    # the weights are 5 long, so the step is 0.1 * 5 long
    place = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    stepper = optimizer("lamb", lr=0.1, weight_decay=0.5).build([{"params": [place]}])
    step(stepper, place, gradient=7.0)
    share = 5 / 15.25**0.5
    assert place.detach().tolist()[0] == pytest.approx([3 - 0.1 * share * 2.5, 4 - 0.1 * share * 3], abs=1e-5)


def test_lamb_moves_what_has_no_length_by_adam_alone() -> None:
    zero, norm = nn.Parameter(torch.zeros(1, 1)), weight(1.0)
    stepper = optimizer("lamb", lr=0.1, weight_decay=0.0).build([{"params": [zero, norm]}])
    step(stepper, zero, norm, gradient=-7.0)
    assert (zero.item(), norm.item()) == pytest.approx((0.1, 1.1), abs=1e-5)


# --- muon


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 4, 3), (1, 5, 5)])
def test_the_iteration_of_muon_moves_singular_values_alone(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = np.linalg.svd(matrices.double().numpy(), full_matrices=False)
    values /= np.linalg.norm(matrices.double().numpy(), axis=(1, 2))[:, None]
    for _ in range(5):
        values = A * values + B * values**3 + C * values**5
    expected = torch.from_numpy(left * values[:, None, :] @ right)
    torch.testing.assert_close(evened(matrices, 5).double(), expected, atol=1e-5, rtol=1e-4)
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_looks_ahead_along_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov needs momentum > 0; set nesterov to false or momentum to 0.95"):
        optimizer("muon", momentum=0.0)
    assert optimizer("muon", momentum=0.0, nesterov=False)


@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_walks_where_that_of_torch_does(nesterov: bool) -> None:
    # theirs computes in bfloat16, which has two digits and a half; 20 steps are 0.02 long each
    shapes = [(4, 7), (9, 3), (4, 7)]
    ours, theirs = weights(*shapes), weights(*shapes)
    options = {"lr": 0.02, "weight_decay": 0.1, "nesterov": nesterov}
    places = reached(optimizer("muon", matrices=True, **options).build([{"params": ours}]), ours)
    reference = torch.optim.Muon(theirs, momentum=0.95, **options)
    for place, expected in zip(places, reached(reference, theirs), strict=True):
        torch.testing.assert_close(place, expected, atol=0.01, rtol=0)


def test_muon_moves_filters_as_the_matrices_that_they_are() -> None:
    (filters,), (matrix,) = weights((4, 2, 3, 3)), weights((4, 2, 3, 3))
    matrix = nn.Parameter(matrix.detach().flatten(1))
    moved = []
    for each in (filters, matrix):
        stepper = optimizer("muon", matrices=True).build([{"params": [each]}])
        for index in range(3):
            each.grad = torch.randn(72, generator=torch.Generator().manual_seed(index)).view_as(each)
            stepper.step()
        moved.append(each.detach().flatten(1))
    assert torch.equal(*moved)


def test_muon_by_hand() -> None:
    # a bank of two filters of one weight, gradient (3, 4): one singular value, 1 after normalising, and five rounds
    # of a s + b s^3 + c s^5; twice as many rows as columns make the step sqrt(2) times as long
    value = 1.0
    for _ in range(5):
        value = A * value + B * value**3 + C * value**5
    place = nn.Parameter(torch.tensor([1.0, 1.0]).view(2, 1, 1, 1))
    place.grad = torch.tensor([3.0, 4.0]).view(2, 1, 1, 1)
    optimizer("muon", lr=0.1, weight_decay=0.5).build([{"params": [place]}]).step()
    length = 0.1 * 2**0.5 * value
    assert place.detach().flatten().tolist() == pytest.approx([0.95 - length * 0.6, 0.95 - length * 0.8], abs=1e-5)


def test_muon_keeps_the_norm_of_filters_where_told() -> None:
    (place,) = weights((4, 2, 3, 3))
    step(optimizer("muon", lr=1e-9, fixed_norm=True).build([{"params": [place]}]), place, gradient=1.0)
    assert place.norm().item() == pytest.approx(2.0)
    start = weights((4, 2, 3, 3))[0]
    torch.testing.assert_close(place.detach(), start.detach() * 2 / start.detach().norm())


@pytest.mark.parametrize(
    ("others", "reference"),
    [
        ("adamw", lambda w, lr: torch.optim.AdamW(w, lr=lr, betas=(0.8, 0.999), weight_decay=0.1)),
        ("sgd", lambda w, lr: torch.optim.SGD(w, lr=lr, momentum=0.8, nesterov=True, weight_decay=0.1)),
    ],
)
def test_muon_leaves_the_rest_to_another(others: str, reference: Any) -> None:
    ours, theirs = weights((3,), (4, 3)), weights((3,), (4, 3))
    part = optimizer(
        "muon", lr=0.5, weight_decay=0.1, others=others, others_momentum=0.8, matrices_lr=0.02, vectors_lr=0.01
    )
    places = reached(part.build([{"params": ours}]), ours)
    stepper = reference([{"params": theirs[:1]}, {"params": theirs[1:], "lr": 0.02}], 0.01)
    for place, expected in zip(places, reached(stepper, theirs), strict=True):
        torch.testing.assert_close(place, expected, atol=1e-6, rtol=1e-6)


# --- sam


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_by_hand(adaptive: bool) -> None:
    # the bowl x^2 + 2 y^2 at (1, 1) has the slope (2, 4)
    place = weight(1.0, 1.0)
    part = optimizer("sam", lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0, rho=0.5, adaptive=adaptive)
    stepper = part.build([{"params": [place]}])
    place.grad = torch.tensor([2.0, 4.0])
    assert isinstance(stepper, Ascending)
    stepper.ascend()
    share = 0.5 / 20**0.5 * (1.01 if adaptive else 1)  # ASAM's T is 1.01 here: T^2 g / |T g|
    above = [1 + share * 2, 1 + share * 4]
    assert place.detach().tolist() == pytest.approx(above)
    place.grad = torch.tensor([2 * above[0], 4 * above[1]])
    stepper.step()
    assert place.detach().tolist() == pytest.approx([1 - 0.1 * 2 * above[0], 1 - 0.1 * 4 * above[1]])


def test_sam_goes_back_to_the_very_bits() -> None:
    moved = weights(*KINDS)
    stepper = optimizer("sam", momentum=0.0, nesterov=False, weight_decay=0.0).build([{"params": moved}])
    for each in moved:
        each.grad = each.detach() / 3
    stepper.ascend()
    assert not any(map(torch.equal, moved, weights(*KINDS)))
    step(stepper, *moved, gradient=0.0)
    assert all(map(torch.equal, moved, weights(*KINDS)))


def test_sam_goes_on_from_a_state_wherever_it_had_climbed() -> None:
    moved, fresh = weights(*KINDS), weights(*KINDS)
    first = optimizer("sam").build([{"params": moved}])
    state = copy.deepcopy(first.state_dict())
    for each in moved:
        each.grad = torch.ones_like(each)
    assert isinstance(first, Ascending)
    first.ascend()  # and then the second gradient fails
    first.load_state_dict(state)
    with torch.no_grad():
        for each, restored in zip(moved, fresh, strict=True):
            each.copy_(restored.mul_(2))
    for stepper, each in ((first, moved), (optimizer("sam").build([{"params": fresh}]), fresh)):
        walk(stepper, each, range(3))
    assert all(map(torch.equal, moved, fresh))


def test_sam_that_does_not_climb_is_sgd() -> None:
    ours, theirs = weights(*KINDS), weights(*KINDS)
    for name, moved in (("sam", ours), ("sgd", theirs)):
        stepper = optimizer(name, lr=0.1).build([{"params": moved}])
        for _ in range(3):
            step(stepper, *moved, gradient=0.5)
    assert all(map(torch.equal, ours, theirs))


def test_the_door_refuses_float16_for_what_can_skip_no_step() -> None:
    asked = "compute.precision=float16"
    assert clashes("classification-folder", "optimizer={name: sam}", asked) == [
        "  the parts together: compute.precision is 'float16', which skips steps whose gradient overflows, but "
        "optimizer 'sam' cannot; set compute.precision to bfloat16, float32 or auto."
    ]
    assert not clashes("classification-folder", "optimizer={name: sgd}", asked)
