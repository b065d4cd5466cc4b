"""What the speed runs of CIFAR-10 are made of, each an option: whitened pictures, blurs, second looks, the preset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import yaml
from small_project import ROOT
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.bundle import normaliser
from pipeline.contracts import Frame, ModelConfig, Options, Target
from pipeline.errors import UserError
from pipeline.models._blur import BlurPool
from pipeline.models._whitening import EPSILON, Whitening
from pipeline.models.airbench import Group
from pipeline.plugin import config_class
from pipeline.policy import Policy
from pipeline.tasks._second_looks import SecondLooks
from pipeline.train.batches import Material
from pipeline.train.informing import PIXELS, inform
from pipeline.train.learner import Learner, parameter_groups
from pipeline.training import OptimizerConfig

PRESET = yaml.safe_load((ROOT / "params" / "cifar10-speedrun.yaml").read_text())


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def part(folder: str, name: str, **options: object) -> Any:
    return config_class(folder, name).model_validate(options)


# --- whitening


def patches(pictures: Tensor, side: int) -> np.ndarray:
    """Every patch of every picture, float64 [P, C side^2], without torch's own way to get them."""
    count, channels, height, width = pictures.shape
    pixels = pictures.double().numpy()
    return np.array(
        [
            pixels[number, :, top : top + side, left : left + side].reshape(channels * side**2)
            for number in range(count)
            for top in range(height - side + 1)
            for left in range(width - side + 1)
        ]
    )


@pytest.mark.parametrize(("channels", "side"), [(3, 2), (1, 3)])
def test_the_filters_are_the_eigenvectors_that_numpy_finds(channels: int, side: int) -> None:
    pictures = F.avg_pool2d(drawn(300, channels, 6, 6), 2, stride=1)  # neighbours are alike; more than one portion
    layer = Whitening(channels, side)
    layer.learn_from(pictures)
    rows = patches(pictures, side)
    variances, directions = np.linalg.eigh(rows.T @ rows / len(rows))
    expected = directions.T / np.sqrt(variances + EPSILON)[:, None]
    found = layer.filters.double().flatten(1).numpy()
    half = len(found) // 2
    signs = np.sign((found[:half] * expected).sum(axis=1, keepdims=True))  # either is an eigenvector
    np.testing.assert_allclose(found[:half], signs * expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found[half:], -found[:half])


def test_whitened_patches_vary_alike_in_every_direction_and_together_in_none() -> None:
    pictures = F.avg_pool2d(drawn(50, 3, 17, 17), 2, stride=1)
    layer = Whitening(3)
    layer.learn_from(pictures)
    with torch.no_grad():
        maps = layer(pictures)[:, :12].transpose(0, 1).flatten(1)
    torch.testing.assert_close(maps @ maps.T / maps.shape[1], torch.eye(12), atol=0.02, rtol=0)


def test_before_it_has_seen_pictures_it_gives_their_pixels() -> None:
    pictures = drawn(2, 1, 4, 4)
    with torch.no_grad():
        maps = Whitening(1)(pictures)
    assert torch.equal(maps[:, 1], pictures[:, 0, :3, 1:])  # the second pixel of a patch is the right one of the upper
    assert torch.equal(maps[:, 4:], -maps[:, :4])


# --- first weights from the training pictures


def material(count: int, side: int) -> Material:
    random = np.random.default_rng(0)
    ids = [f"{number:04x}" for number in random.permutation(count)]
    labels = np.arange(count) % 2
    pictures = random.integers(0, 128, (count, side, side, 3)) + 100 * labels[:, None, None, None]
    return Material(ids, pictures.astype(np.uint8), labels, Target.LABEL, np.arange(count))


def policy(packed: int, size: int) -> Policy:
    return Policy(
        channels=3,
        frame=Frame.model_validate({}),
        packed=packed,
        size=size,
        mean=[0.4, 0.5, 0.6],
        deviation=[0.2, 0.25, 0.3],
        transforms={},
    )


def learner(network: nn.Module, seen: Policy) -> Learner:
    return Learner(
        normaliser(seen.mean, seen.deviation),
        network,
        part("losses", "cross_entropy").build([1, 1], 2),
        part("mixings", "none"),
    )


def test_it_learns_from_the_first_pictures_by_their_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.train.informing.PIXELS", 5 * 6 * 6)
    train, seen = material(12, 8), policy(8, 6)
    network = nn.Sequential(Whitening(3), nn.Flatten(), nn.Linear(24 * 25, 2))
    inform(learner(network, seen), train, seen)
    first = sorted(range(12), key=lambda place: train.ids[place])[:5]
    shown = train.pictures[sorted(first)][:, 1:7, 1:7].astype(np.float32) / 255  # the middle
    expected = Whitening(3)
    expected.learn_from(torch.from_numpy((shown - seen.mean) / seen.deviation).float().permute(0, 3, 1, 2))
    torch.testing.assert_close(network[0].filters, expected.filters, rtol=1e-4, atol=1e-4)


def test_it_sees_as_many_pictures_as_the_speed_run_and_fewer_large_ones() -> None:
    assert (PIXELS // 32**2, PIXELS // 224**2) == (5000, 102)


def test_a_network_that_wants_to_know_nothing_is_left_alone() -> None:
    network = part("models", "convnet", width=2).build(3, 2, 8)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    inform(learner(network, policy(8, 8)), material(4, 8), policy(8, 8))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


# --- blurs


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 4, 5])
def test_blurs_with_the_kernel_of_the_paper(side: int, stride: int) -> None:
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(line, line).expand(3, 1, 3, 3)
    maps = drawn(2, 3, side, side)
    expected = F.conv2d(F.pad(maps, (1, 1, 1, 1), mode="replicate"), kernel, stride=stride, groups=3)
    torch.testing.assert_close(BlurPool(stride=stride)(maps), expected)


def test_blur_by_hand() -> None:
    # at the edge 0, 0, 1: (0 + 2 * 0 + 1) / 4; in the middle 1, 4, 9: (1 + 8 + 9) / 4; at the other 9, 16, 16
    maps = torch.tensor([0.0, 1.0, 4.0, 9.0, 16.0]).expand(1, 1, 5, 5)
    assert BlurPool()(maps)[0, 0, 1].tolist() == [0.25, 4.5, 14.25]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("whitened", [False, True])
def test_convnet_halves_blurred_maps_to_the_same_sides(whitened: bool, stride: int) -> None:
    sharp, blurred = (
        part("models", "convnet", width=4, stride=stride, pooled=False, whitened=whitened, blur=blur).build(3, 5, 33)
        for blur in (False, True)
    )
    assert [weights.shape for weights in sharp.parameters()] == [weights.shape for weights in blurred.parameters()]
    # 33 pixels halve to 17, 9, 5, 3; the 32 that whitening leaves to 16, 8, 4
    assert sum(isinstance(layer, BlurPool) for layer in blurred) == (3 if whitened else 4)
    assert blurred(drawn(2, 3, 33, 33)).shape == (2, 5)
    assert isinstance(blurred[0], Whitening) is whitened


def test_a_blurred_network_minds_a_shift_less() -> None:
    pictures = drawn(8, 3, 34, 34)
    told = []
    for blur in (False, True):
        torch.manual_seed(0)
        network = part("models", "convnet", width=4, blur=blur).build(3, 5, 32).eval()
        with torch.no_grad():
            here, there = network(pictures[:, :, 1:33, 1:33]), network(pictures[:, :, 2:34, 2:34])
        told.append(((here - there).std() / here.std()).item())
    assert told[1] < 0.7 * told[0]


def test_timm_blurs_where_it_has_a_place_for_it() -> None:
    network = part("models", "timm", architecture="test_resnet", blur=True).build(3, 5, 64)
    assert any(isinstance(layer, BlurPool) for layer in network.modules())
    with pytest.raises(UserError, match="test_convnext2 cannot be built for pictures of 64 pixels: .*'aa_layer'"):
        part("models", "timm", architecture="test_convnext2", blur=True).build(3, 5, 64)


# --- the network


def test_airbench_has_the_weights_that_its_header_says() -> None:
    network = part("models", "airbench").build(3, 10, 32)
    assert sum(weights.numel() for weights in network.parameters()) == 1_971_352
    assert {weights.ndim for weights in network.parameters()} == {1, 2, 4}
    assert "whitening.filters" not in dict(network.named_parameters())


def test_airbench_begins_by_passing_maps_on() -> None:
    maps = drawn(2, 3, 8, 8)
    with torch.no_grad():
        group = Group(3, 5)
        assert torch.equal(group.first(maps)[:, :3], maps)
        assert not torch.equal(group.first(maps)[:, 3:], maps[:, :2])
    assert [name for name, _ in group.first_norm.named_parameters()] == ["bias"]


def test_airbench_answers_in_small_numbers() -> None:
    plain, scaled = (part("models", "airbench", widths=(4,), logit_scale=scale) for scale in (1.0, 0.25))
    told = []
    for each in (plain, scaled):
        torch.manual_seed(0)
        with torch.no_grad():
            told.append(each.build(1, 3, 8).eval()(drawn(2, 1, 8, 8)))
    torch.testing.assert_close(told[1], told[0] / 4)


@pytest.mark.slow
def test_airbench_has_gradients_compiled_in_half_precision_too() -> None:
    slopes = []
    for compiled in (False, True):
        torch.manual_seed(0)
        net = part("models", "airbench", widths=(4,)).build(3, 5, 8)
        with torch.autocast("cpu", torch.bfloat16):
            answers = (torch.compile(net) if compiled else net)(drawn(16, 3, 8, 8))
        answers.float().square().sum().backward()
        slopes.append(torch.cat([weights.grad.flatten() for weights in net.parameters() if weights.grad is not None]))
    assert (slopes[1] - slopes[0]).norm() < 0.05 * slopes[0].norm()


def test_airbench_sees_no_picture_that_it_cannot_halve_often_enough() -> None:
    assert part("models", "airbench", widths=(2, 2, 2)).build(3, 5, 9)(drawn(2, 3, 9, 9)).shape == (2, 5)
    expected = (
        "params.yaml: model airbench, with 3 groups and patches of 2, sees pictures of 9 pixels or more, and "
        "augment.size is 8: enlarge it, or give fewer model.widths."
    )
    with pytest.raises(UserError) as caught:
        part("models", "airbench").build(3, 5, 8)
    assert str(caught.value) == expected


# --- second looks


class Corner(nn.Module):
    """The logits are the four corners of a picture of one channel: upper left, upper right, lower left, lower right."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]


PICTURES = torch.tensor([[[[9.0, 0.0, 1.0], [2.0, 3.0, 0.0], [0.0, 4.0, 1.0]]], [[[1.0, 5, 6], [0, 7, 1], [2, 3, 1]]]])


def test_an_unsure_answer_is_the_mean_of_six_looks_and_a_sure_one_is_left() -> None:
    # the second picture: as it is, corners 1 6 2 1, and in a mirror 6 1 1 2.
    # Moved down and right with its edge repeated, rows 1 1 5 | 1 1 5 | 0 0 7: corners 1 5 0 7, and in a mirror 5 1 7 0;
    # up and left, rows 7 1 1 | 3 1 1 | 3 1 1: corners 7 1 3 1, and 1 7 1 3.
    looks = SecondLooks(Corner(), 0.999, mirrored=True).eval()
    plain = np.array([1, 6, 2, 1]) / 2 + np.array([1, 5, 0, 7]) / 4 + np.array([7, 1, 3, 1]) / 4
    mirrored = np.array([6, 1, 1, 2]) / 2 + np.array([5, 1, 7, 0]) / 4 + np.array([1, 7, 1, 3]) / 4
    first, second = looks(PICTURES).tolist()
    assert first == [9, 1, 0, 1]  # sure by e^9 / (e^9 + e^1 + e^0 + e^1) = 0.9992
    assert second == pytest.approx((plain + mirrored) / 2)
    assert SecondLooks(Corner(), 0.999, mirrored=False).eval()(PICTURES)[1].tolist() == pytest.approx(plain)


def test_it_looks_once_while_it_learns() -> None:
    looks = SecondLooks(Corner(), 1.0, mirrored=True)
    assert torch.equal(looks.train()(PICTURES), Corner()(PICTURES))
    assert not torch.equal(looks.eval()(PICTURES), Corner()(PICTURES))


@pytest.mark.slow
def test_exported_it_looks_again_at_as_many_as_it_is_unsure_of() -> None:
    torch.manual_seed(0)
    network = part("models", "airbench", widths=(4, 8)).build(3, 5, 16).eval()
    pictures = drawn(9, 3, 16, 16)
    with torch.no_grad():
        sure = network(pictures).softmax(dim=1).amax(dim=1)
        looks = SecondLooks(network, sure.median().item(), mirrored=True).eval()
        batch = torch.export.Dim("batch", min=2)
        program = torch.export.export(looks, (drawn(2, 3, 16, 16),), dynamic_shapes=({0: batch},), strict=False)
        again = (looks(pictures) != network(pictures)).any(dim=1)
        assert again.tolist() == (sure < sure.median()).tolist()
        answering = program.module()
        for some in (slice(0, 9), slice(3, 5), sure.argsort(descending=True)[:3], sure.argsort()[:3]):
            torch.testing.assert_close(answering(pictures[some]), looks(pictures)[some])


def test_a_task_looks_again_where_it_is_told_to() -> None:
    network = Corner()
    assert part("tasks", "classification").answering(network, None) is network
    looks = part("tasks", "classification", unsure_below=0.5, unsure_mirrored=False).answering(network, None)
    assert (looks.network, looks.below, looks.mirrored) == (network, 0.5, False)


# --- the preset


def of_preset(section: str, folder: str, **changes: object) -> Options:
    options = {**PRESET[section], **changes}
    return part(folder, options.pop("name"), **options)


def test_the_preset_learns_to_tell_made_up_pictures_apart() -> None:
    told = PRESET["optimizer"]
    fewer = {key: told[key] * 16 / PRESET["train"]["batch_size"] for key in ("matrices_lr", "vectors_lr")}
    model, stepping = of_preset("model", "models", widths=(8, 8)), of_preset("optimizer", "optimizers", **fewer)
    assert isinstance(model, ModelConfig) and isinstance(stepping, OptimizerConfig)
    torch.manual_seed(0)
    train, seen = material(16, 16), policy(16, 16)
    learning = learner(model.build(3, 2, 16), seen)
    inform(learning, train, seen)
    optimizer = stepping.build(parameter_groups(learning, {}))
    pictures, labels = torch.from_numpy(train.pictures), torch.from_numpy(train.targets)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = learning(*learning.prepared(pictures, labels))[0]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(2), abs=0.1)
    assert losses == sorted(losses, reverse=True)
    shown, _ = learning.prepared(pictures, labels)
    assert torch.equal(learning.network(shown).argmax(dim=1), labels)
    filters = [weights for weights in learning.network.parameters() if weights.ndim == 4]
    for each in filters:  # a step after the norm is fixed is no longer than 0.24 sqrt(rows)
        assert each.norm().item() == pytest.approx(len(each) ** 0.5, rel=0.35)
