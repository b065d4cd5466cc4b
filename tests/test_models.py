"""Every classifier in pipeline/models/ meets one contract; what is special to one of them is checked below it.

Networks of boxes have their suite in tests/test_detectors.py, those of maps in tests/test_segmentation.py.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from torch import Tensor, nn

from pipeline.contracts import ModelConfig, Output
from pipeline.errors import UserError
from pipeline.models.lenet5 import C3_INPUTS, LeNet5, Subsampling, squash
from pipeline.plugin import config_class, names

LIGHT: dict[str, dict[str, Any]] = {
    "airbench": {"widths": (8, 16, 16)},
    "convnet": {"width": 8},
    "timm": {"architecture": "test_convnext2"},
    "torchvision": {"architecture": "shufflenet_v2_x0_5"},
}
"""Options that make a model small, and those that it must be given."""
SIDE, CLASSES = 32, 5
NAMES = [name for name in names("models") if config_class("models", name).gives is Output.VECTOR]


def model(name: str, **options: object) -> ModelConfig:
    return config_class("models", name).model_validate({**LIGHT.get(name, {}), **options})


def network(name: str, channels: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return model(name).build(channels, CLASSES, SIDE)


def pictures(count: int, channels: int = 3, side: int = SIDE) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def answers(net: nn.Module, batch: Tensor) -> Tensor:
    with torch.no_grad():
        return net.eval()(batch)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_gives_what_it_says_while_training_and_after(name: str, channels: int) -> None:
    net = network(name, channels)
    assert net.training
    assert net(pictures(4, channels)).shape == (4, CLASSES)
    assert answers(net, pictures(4, channels)).shape == (4, CLASSES)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_weight(name: str, channels: int) -> None:
    net = network(name, channels)
    with torch.no_grad():
        for weights in net.parameters():  # some start at zero on purpose, and hold back the gradient of others
            weights.add_(0.05 * torch.randn_like(weights))
    logits = net(pictures(8, channels))
    (logits * torch.randn_like(logits)).sum().backward()
    unreached = [key for key, weights in net.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert unreached == []


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_answered_alike_in_any_company(name: str) -> None:
    net, batch = network(name), pictures(6)
    together, order = answers(net, batch), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(answers(net, batch[order]), together[order])
    torch.testing.assert_close(answers(net, batch[2:3]), together[2:3])


@pytest.mark.parametrize("size", [0.0, 1.0, -1.0, 1e3, -1e3])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_pictures_are_answered_in_finite_numbers(name: str, size: float) -> None:
    assert torch.isfinite(answers(network(name), torch.full((2, 3, SIDE, SIDE), size))).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_the_first_weights(name: str) -> None:
    first, again, other = (network(name, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_gives_the_same_answers(name: str) -> None:
    net = network(name)
    net(pictures(4))  # moves the statistics that belong to the state
    loaded = network(name, seed=1)
    loaded.load_state_dict(load(save(net.state_dict())))
    assert torch.equal(answers(loaded, pictures(3)), answers(net, pictures(3)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_exported_it_gives_the_same_answers_for_any_number_of_pictures(name: str, channels: int) -> None:
    net = network(name, channels).eval()
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(net, (pictures(3, channels),), dynamic_shapes=({0: batch},), strict=False).module()
    for count in (1, 2, 7):
        torch.testing.assert_close(
            answers_of(program, pictures(count, channels)), answers(net, pictures(count, channels))
        )


def answers_of(program: nn.Module, batch: Tensor) -> Tensor:
    with torch.no_grad():  # an exported program has no eval(): it was exported in it
        return program(batch)


# --- lenet5


def test_lenet5_has_the_weights_that_the_paper_counts() -> None:
    net = model("lenet5").build(1, 10, 32)
    counts = {key: sum(weights.numel() for weights in layer.parameters()) for key, layer in net.named_children()}
    paper = {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164}
    assert counts == {**paper, "output": 84 * 10 + 10}


def test_lenet5_sees_32_pixels() -> None:
    expected = "lenet5 sees 32-pixel pictures, and augment.size is 28: set augment.size to 32"
    with pytest.raises(UserError, match=expected):
        model("lenet5").build(1, 10, 28)


def test_lenet5_c3_sees_the_maps_of_the_table() -> None:
    table = LeNet5(1, 10).c3
    maps = torch.zeros(6, 6, 14, 14)
    maps[range(6), range(6)] = 1.0  # picture i has only map i
    lit = (table(maps) - table.bias[:, None, None]).abs().amax(dim=(2, 3)) > 1e-6
    seen = [tuple(lit[:, output].nonzero().flatten().tolist()) for output in range(16)]
    assert seen == [tuple(sorted(row)) for row in C3_INPUTS]
    assert [len(row) for row in seen] == [3] * 6 + [4] * 9 + [6]
    assert lit.sum(dim=1).tolist() == [10] * 6  # Table I: every map of S2 feeds ten of C3


def test_lenet5_c3_is_a_convolution_with_the_missing_kernels_at_zero() -> None:
    table, maps = LeNet5(1, 10).c3, torch.randn(2, 6, 14, 14)
    dense, kernels = nn.Conv2d(6, 16, 5), iter(table.weight)
    with torch.no_grad():
        dense.weight.zero_()
        dense.bias.copy_(table.bias)
        for output, row in enumerate(C3_INPUTS):
            for seen in row:
                dense.weight[output, seen] = next(kernels).view(5, 5)
    torch.testing.assert_close(table(maps), dense(maps))


def test_lenet5_subsampling_by_hand() -> None:
    layer = Subsampling(1)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(0.5)
    maps = torch.tensor([[[[1.0, 2.0, 0.0, 0.0], [3.0, 6.0, 0.0, 4.0]]]])
    assert layer(maps).flatten().tolist() == [2 * 3 + 0.5, 2 * 1 + 0.5]


def test_lenet5_squash_is_the_papers() -> None:
    assert squash(torch.tensor([1.0, -1.0, 0.0, 1e9])).tolist() == pytest.approx([1, -1, 0, 1.7159], abs=1e-4)


# --- convnet


@pytest.mark.parametrize(
    ("size", "stride", "sides"),
    [
        (4, 2, [4]),
        (8, 2, [8, 4]),
        (16, 2, [16, 8, 4]),
        (17, 2, [9, 5, 3]),
        (32, 2, [16, 8, 4]),
        (32, 1, [32, 16, 8, 4]),
        (96, 2, [48, 24, 12, 6, 3]),
        (224, 2, [112, 56, 28, 14, 7, 4]),
    ],
)
def test_convnet_halves_until_four_pixels_are_left(size: int, stride: int, sides: list[int]) -> None:
    net = model("convnet", width=2, stride=stride).build(3, 4, size)
    maps, seen = pictures(2, 3, size), []
    for layer in net:
        maps = layer(maps)
        if maps.ndim == 4 and maps.shape[-1] > 1:
            seen.append((maps.shape[-1], maps.shape[1]))
    widths = [min(2 * 2**stage, 16) for stage in range(len(sides))]
    assert sorted(set(seen), reverse=True) == list(zip(sides, widths, strict=True))


def test_convnet_has_the_weights_that_its_header_says() -> None:
    net = config_class("models", "convnet")().build(1, 10, 32)
    assert sum(weights.numel() for weights in net.parameters()) == 463_594


def test_convnet_learns_a_few_pictures_by_heart() -> None:
    torch.manual_seed(0)
    net = model("convnet", width=8).build(1, CLASSES, SIDE)
    batch, labels = pictures(20, 1), torch.arange(20) % CLASSES
    stepper = torch.optim.AdamW(net.parameters(), lr=0.01)
    for _ in range(30):
        stepper.zero_grad()
        nn.functional.cross_entropy(net(batch), labels).backward()
        stepper.step()
    assert torch.equal(net(batch).argmax(dim=1), labels)


# --- the families


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_an_unknown_architecture_is_refused_with_the_nearest_name(library: str) -> None:
    with pytest.raises(ValidationError) as caught:
        model(library, architecture="resnet81")
    (problem,) = caught.value.errors()
    expected = f"Value error, no {library} architecture named 'resnet81'. Did you mean 'resnet18'?"
    assert (problem["loc"], problem["msg"]) == (("architecture",), expected)


@pytest.mark.parametrize("given", ["hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp", "resnet18.a1_in1k", "", "../x"])
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_name_that_would_load_something_is_no_architecture(library: str, given: str) -> None:
    with pytest.raises(ValidationError, match="no (timm|torchvision) architecture named"):
        model(library, architecture=given)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_nothing_is_fetched(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a model asked the network for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert model(library).build(3, CLASSES, SIDE)


@pytest.mark.parametrize(
    ("library", "architecture", "size", "reason"),
    [
        ("timm", "test_vit", 40, "divisible"),
        ("torchvision", "inception_v3", 64, "Kernel size can't be greater than actual input size"),
        ("torchvision", "vit_b_16", 40, "Input shape indivisible by patch size"),
    ],
)
def test_a_size_that_an_architecture_cannot_take(library: str, architecture: str, size: int, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        model(library, architecture=architecture).build(3, CLASSES, size)
    text = str(caught.value)
    assert text.startswith(f"params.yaml: model: {architecture} cannot be built for pictures of {size} pixels: ")
    assert reason in text
    assert text.endswith(". Change augment.size, the architecture or its options.")


def test_timm_transformers_are_made_for_the_size_of_the_pictures() -> None:
    net = model("timm", architecture="test_vit").build(1, CLASSES, 64)
    assert answers(net, pictures(2, 1, 64)).shape == (2, CLASSES)


@pytest.mark.parametrize("architecture", ["resnet18", "poolformer_s12"])
def test_timm_convolutional_networks_need_no_size(architecture: str) -> None:
    # the two refuse `img_size` in different words
    assert model("timm", architecture=architecture).build(3, CLASSES, 48)


def test_timm_options_reach_the_network() -> None:
    torch.manual_seed(0)
    net = model("timm", drop_rate=0.5).build(3, CLASSES, SIDE)
    dropped = [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)]
    assert 0.5 in dropped
    assert 0.5 not in [layer.p for layer in network("timm").modules() if isinstance(layer, nn.Dropout)]


@pytest.mark.parametrize(("library", "channels"), [("timm", 1), ("torchvision", 3), ("torchvision", 1)])
def test_a_resnet_for_small_pictures_halves_them_three_times(library: str, channels: int) -> None:
    net = model(library, architecture="resnet18", small_pictures=True).build(channels, 10, 32)
    maps = []
    last = next(module for name, module in net.named_modules() if name.endswith("layer4"))
    last.register_forward_hook(lambda _, __, found: maps.append(found.shape))
    assert answers(net, pictures(2, channels)).shape == (2, 10)
    assert maps == [(2, 512, 4, 4)]
    first = 64 * 9 * (1 if library == "timm" else 3)
    assert sum(weights.numel() for weights in net.parameters()) == 11_173_962 - 64 * 9 * 3 + first


@pytest.mark.parametrize(("library", "architecture"), [("timm", "vgg11"), ("torchvision", "shufflenet_v2_x0_5")])
def test_what_begins_otherwise_cannot_be_made_for_small_pictures(library: str, architecture: str) -> None:
    with pytest.raises(UserError) as caught:
        model(library, architecture=architecture, small_pictures=True).build(3, CLASSES, SIDE)
    assert str(caught.value) == (
        f"params.yaml: model: small_pictures is true, but {architecture} does not begin with a convolution and a "
        "pooling that halve, as resnet18 and its kin do. Set it to false, or take another architecture."
    )


def test_timm_option_that_the_architecture_does_not_have() -> None:
    expected = "vgg11 cannot be built for pictures of 32 pixels: .*'drop_path_rate'"
    with pytest.raises(UserError, match=expected):
        model("timm", architecture="vgg11", drop_path_rate=0.1).build(3, CLASSES, 32)


def test_torchvision_sees_grey_as_colour() -> None:
    grey, colour = network("torchvision", 1), network("torchvision", 3)
    batch = pictures(3, 1)
    assert torch.equal(answers(grey, batch), answers(colour, batch.repeat(1, 3, 1, 1)))


def test_torchvision_googlenet_trains_without_its_helper_heads() -> None:
    net = model("torchvision", architecture="googlenet").build(3, CLASSES, 32)
    assert net.train()(pictures(4)).shape == (4, CLASSES)
