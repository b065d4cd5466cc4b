"""Every file in pipeline/averages/ meets one contract; they are compared with torch's and timm's, and done by hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ready_files import clashes
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from pipeline.averages._copies import Copies
from pipeline.plugin import config_class, names
from pipeline.train.refreshing import refreshed
from pipeline.training import Average, AverageConfig

FOLLOWING = [name for name in names("averages") if name != "none"]
STEPS = 40


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """More of them only wait for each other in a network as small as this one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def part(name: str, **options: object) -> AverageConfig:
    return config_class("averages", name)(**options)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2 * 4, 3))


def trained(net: nn.Module, first: int = 0, end: int = STEPS) -> Iterator[int]:
    """Move a network as training does, and yield after each step."""
    for step in range(first, end):
        torch.manual_seed(step)
        net.train()(torch.randn(5, 1, 4, 4))  # moves the statistics
        with torch.no_grad():
            for weights in net.parameters():
                weights.add_(torch.randn(weights.shape), alpha=0.1)
        yield step


def followed(name: str, net: nn.Module, **options: object) -> Average:
    average = part(name, **options).build(net, STEPS)
    assert average is not None
    for step in trained(net):
        average.update(net, step)
    return average


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# --- the contract


@pytest.mark.parametrize("name", FOLLOWING)
def test_its_weights_fit_the_network_and_are_others(name: str) -> None:
    net = network()
    weights = followed(name, net).weights()
    assert weights is not None
    own, same = net.state_dict(), network()
    assert {key: (one.shape, one.dtype) for key, one in weights.items()} == {
        key: (one.shape, one.dtype) for key, one in own.items()
    }
    same.load_state_dict(weights)
    assert name == "lookahead" or not torch.equal(weights["0.weight"], own["0.weight"])
    assert all(weights[key].data_ptr() != own[key].data_ptr() for key in own)


@pytest.mark.parametrize("name", FOLLOWING)
def test_of_a_network_that_stands_still_it_is_that_network(name: str) -> None:
    net = network()
    start, average = copy.deepcopy(net.state_dict()), part(name).build(net, STEPS)
    for step in range(STEPS):
        average.update(net, step)
    assert all(torch.allclose(one, start[key], atol=1e-6) for key, one in average.weights().items())
    assert equal(net.state_dict(), start)


@pytest.mark.parametrize("name", FOLLOWING)
@pytest.mark.parametrize("stop", [1, 7, 33, 39])
def test_saved_and_restored_it_goes_on_bit_for_bit(name: str, stop: int) -> None:
    whole = network()
    expected = followed(name, whole)
    parted = network()
    first = part(name).build(parted, STEPS)
    for step in trained(parted, 0, stop):
        first.update(parted, step)
    kept, weights = copy.deepcopy(first.state_dict()), copy.deepcopy(parted.state_dict())
    resumed = nn.Sequential(*network())
    resumed[0].reset_parameters()  # a fresh start, of other weights
    second = part(name).build(resumed, STEPS)
    resumed.load_state_dict(weights)
    second.load_state_dict(kept)
    for step in trained(resumed, stop):
        second.update(resumed, step)
    assert equal(whole.state_dict(), resumed.state_dict()) and equal(expected.weights(), second.weights())


@pytest.mark.parametrize("name", FOLLOWING)
def test_its_state_is_tensors_and_plain_values(name: str, tmp_path: Any) -> None:
    state = followed(name, network()).state_dict()
    torch.save(state, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    average = part(name).build(network(), STEPS)
    average.load_state_dict(loaded)
    assert equal(average.weights(), followed(name, network()).weights())


@pytest.mark.parametrize("name", FOLLOWING)
def test_no_gradient_is_kept_and_none_is_needed(name: str) -> None:
    net = network()
    average = followed(name, net)
    assert not any(tensor.requires_grad for tensor in average.weights().values())
    assert all(weights.requires_grad and weights.grad is None for weights in net.parameters())


def test_none_follows_nothing() -> None:
    assert part("none").build(network(), STEPS) is None


def test_only_the_plain_mean_has_statistics_measured_anew() -> None:
    refreshed = {name for name in FOLLOWING if part(name).build(network(), STEPS).refreshes}
    assert refreshed == {"swa"}


# --- ema


def test_ema_by_hand() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 1.0)
    average = part("ema", decay=0.25).build(net, STEPS)
    said = []
    for step, value in enumerate([2.0, 4.0, 8.0, 0.0]):
        nn.init.constant_(net.weight, value)
        average.update(net, step)
        said.append(average.weights()["weight"].item())
    # decays: 1/10, 2/11, min(0.25, 3/12), 0.25
    first = 0.1 * 1 + 0.9 * 2
    second = 2 / 11 * first + 9 / 11 * 4
    third = 0.25 * second + 0.75 * 8
    assert said == pytest.approx([first, second, third, 0.25 * third])


def test_ema_is_that_of_torch_and_of_timm_once_its_memory_is_long() -> None:
    net = network()
    average = part("ema", decay=0.5).build(net, STEPS)
    for step in trained(net, 0, 8):  # (1 + 8) / (10 + 8) is 0.5
        average.update(net, step)
    ours = network()
    ours.load_state_dict(average.weights())
    theirs = AveragedModel(ours, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    theirs.n_averaged += 1  # else the first one is taken over
    timm = ModelEmaV3(ours, decay=0.5)
    for step in trained(net, 8):
        average.update(net, step)
        theirs.update_parameters(net)
        timm.update(net)
    for name, tensor in average.weights().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, theirs.module.state_dict()[name], atol=1e-6), name
        assert torch.equal(tensor, timm.module.state_dict()[name]), name


def test_statistics_are_averaged_and_counts_are_copied() -> None:
    net = network()
    weights = followed("ema", net).weights()
    own = net.state_dict()
    assert weights["1.num_batches_tracked"] == own["1.num_batches_tracked"] == STEPS
    assert not torch.equal(weights["1.running_var"], own["1.running_var"])


# --- swa


def test_swa_is_that_of_torch() -> None:
    net = network()
    average = part("swa", start=0.5, models=5).build(net, STEPS)
    theirs = AveragedModel(net)
    for step in trained(net):
        average.update(net, step)
        if step in (23, 27, 31, 35, 39):  # the last of each fifth of the second half
            theirs.update_parameters(net)
        assert (average.weights() is None) == (step < 23)
    for name, weights in theirs.module.named_parameters():
        assert torch.allclose(average.weights()[name], weights, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "steps", "taken"),
    [
        ({"start": 0.75, "models": 2}, 16, {13, 15}),
        ({"start": 0.75, "models": 20}, 16, {12, 13, 14, 15}),
        ({"start": 0.0, "models": 4}, 16, {3, 7, 11, 15}),
        ({"start": 0.99, "models": 4}, 16, {15}),
        ({"start": 0.5, "models": 3}, 16, {10, 13, 15}),
        ({}, 1, {0}),
    ],
)
def test_swa_takes_weights_at_equal_distances_up_to_the_last(
    options: dict[str, Any], steps: int, taken: set[int]
) -> None:
    assert part("swa", **options).taken(steps) == taken


def test_an_average_of_one_is_none() -> None:
    for name, option in (("swa", {"models": 1}), ("lookahead", {"share": 1.0})):
        with pytest.raises(ValueError, match="greater than or equal to 2" if name == "swa" else "less than 1"):
            part(name, **option)
    assert part("swa").idle(5) and not part("swa").idle(6)
    assert part("lookahead", every=8).idle(7) and not part("lookahead", every=8).idle(8)


# --- lookahead


def test_lookahead_by_hand() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 0.0)
    average = part("lookahead", every=2, share=0.5).build(net, 6)
    at = []
    for step in range(6):
        with torch.no_grad():
            net.weight += 1
        average.update(net, step)
        at.append(net.weight.item())
        assert (average.weights() is None) == (step == 0)
    # two steps forward, one back: 1, 2 -> 1, 2, 3 -> 2, 3, 4 -> 3
    assert at == [1, 1, 2, 2, 3, 3] and average.weights()["weight"].item() == 3


def test_lookahead_moves_the_statistics_too() -> None:
    net = network()
    average = part("lookahead", every=40).build(net, STEPS)
    before = net[1].running_var.clone()
    for step in trained(net):
        after = net[1].running_var.clone()
        average.update(net, step)
    assert torch.allclose(net[1].running_var, (before + after) / 2) and net[1].num_batches_tracked == STEPS


def test_rising_lookahead_is_that_of_airbench() -> None:
    # decays of the published code, read after every fifth step: 0.95 ** 5 * (step / steps) ** 3
    net, reference = network(), network()
    average = part("lookahead", share=1 - 0.95**5, rising=True).build(net, STEPS)
    slow = copy.deepcopy(reference.state_dict())
    for step, other in zip(trained(net), trained(reference), strict=True):
        average.update(net, step)
        if (other + 1) % 5 == 0:
            decay = 0.95**5 * ((other + 1) / STEPS) ** 3
            for kept, own in zip(slow.values(), reference.state_dict().values(), strict=True):
                if own.dtype == torch.float:
                    kept.lerp_(own, 1 - decay)
                    own.copy_(kept)
    for name, tensor in net.state_dict().items():
        assert torch.allclose(tensor, reference.state_dict()[name], atol=1e-6), name


# --- the copies


def test_copies_follow_whichever_network_they_are_given() -> None:
    first, second = network(), network()
    nn.init.constant_(second[0].weight, 5.0)
    copies = Copies(first)
    copies.move(second, 1.0)
    assert equal(copies.tensors, second.state_dict())
    copies.give(first)
    assert equal(first.state_dict(), second.state_dict())


def test_copies_keep_the_memory_format_and_the_type() -> None:
    net = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last).double()
    copies = Copies(net)
    copies.move(net, 0.5)
    assert copies.tensors["weight"].is_contiguous(memory_format=torch.channels_last)
    assert copies.tensors["weight"].dtype == torch.float64


# --- statistics measured anew


class Looks:
    """Lets a network see some batches, and counts how often it was asked to."""

    def __init__(self, net: nn.Module) -> None:
        generator = torch.Generator().manual_seed(1)
        self.batches = [torch.randn(4, 1, 4, 4, generator=generator) + number for number in range(5)]
        self.net, self.times = net, 0

    def __call__(self) -> None:
        self.times += 1
        for batch in self.batches:
            self.net(batch)


def test_statistics_measured_anew_are_those_of_torch() -> None:
    ours, theirs = network(), network()
    for net in (ours, theirs):
        for _ in trained(net, 0, 3):
            pass
    looks = Looks(ours.train())
    before = {name: weights.clone() for name, weights in ours.named_parameters()}
    measured = refreshed(ours, looks)
    update_bn(looks.batches, theirs)
    assert looks.times == 1 and equal(ours.state_dict(), theirs.state_dict())
    names_of_statistics = ["1.num_batches_tracked", "1.running_mean", "1.running_var"]
    assert sorted(measured) == names_of_statistics
    assert equal(measured, {name: ours.state_dict()[name] for name in names_of_statistics})
    assert equal(dict(ours.named_parameters()), before)
    assert all(module.training for module in ours.modules()) and ours[1].momentum == 0.1
    assert all(weights.grad is None for weights in ours.parameters())


def test_statistics_of_layers_that_rest_stay() -> None:
    net = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).train()
    net[0].eval()
    looks = Looks(net)
    assert set(refreshed(net, looks)) == {"2.num_batches_tracked", "2.running_mean", "2.running_var"}
    assert net[0].running_mean.item() == 0 and net[2].num_batches_tracked == 5


def test_where_there_are_no_statistics_nothing_is_looked_at() -> None:
    for net in (nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, track_running_stats=False), nn.GroupNorm(1, 1)):
        looks = Looks(net)
        assert refreshed(net, looks) == {} and looks.times == 0


def test_momentum_comes_back_where_looking_fails() -> None:
    def fails() -> None:
        raise RuntimeError("no memory")

    net = network().train()
    with pytest.raises(RuntimeError, match="no memory"):
        refreshed(net, fails)
    assert net[1].momentum == 0.1


# --- at the door


@pytest.mark.parametrize("models", [2, 7, 20, 500])
@pytest.mark.parametrize(("epochs", "start"), [(4, 0.75), (10, 0.75), (10, 0.0), (7, 0.5)])
def test_swa_begins_where_the_door_takes_it_to(models: int, epochs: int, start: float) -> None:
    config, steps = config_class("averages", "swa")(start=start, models=models), 100 * epochs
    assert config.begins * steps == pytest.approx(min(config.taken(steps)) + 1, abs=2)
    assert config_class("averages", "ema")().begins == config_class("averages", "none")().begins == 0


def test_patience_that_may_end_before_swa_begins_is_refused() -> None:
    swa = "average={name: swa}"
    assert clashes("ordinal", swa, "train.epochs=10", "train.patience=3") == [
        "  the parts together: train.patience is 3 and may end the training after 4 epochs, but average 'swa' begins "
        "after 7.62 of 10; set train.patience to 7 or more, or to 0 to never stop early."
    ]
    assert clashes("ordinal", swa, "train.epochs=10", "train.patience=6")
    assert not clashes("ordinal", swa, "train.epochs=10", "train.patience=7")
    assert not clashes("ordinal", swa, "train.epochs=1") and not clashes(
        "ordinal", swa, "train.epochs=1", "train.patience=1"
    )
    assert not clashes("ordinal", "average={name: ema}", "train.patience=1")
