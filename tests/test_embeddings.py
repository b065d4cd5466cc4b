"""Every model in pipeline/models/ that gives embeddings meets one contract; what is special to one is checked below."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from torch import Tensor, nn

from pipeline import bundle
from pipeline.bundle import Bundle, BundleInfo
from pipeline.contracts import Frame, Output
from pipeline.errors import UserError
from pipeline.networks import Deciding, answered, learnt_from
from pipeline.plugin import config_class, names

pytestmark = pytest.mark.slow

LIGHT: dict[str, list[dict[str, Any]]] = {
    "embedding": [
        {"width": 8},
        {"backbone": "timm/test_convnext2"},
        {"backbone": "torchvision/shufflenet_v2_x0_5"},
    ]
}
"""Options that make a model small: each is a network that the suite runs over."""
SIDE, LENGTH = 32, 10
NETWORKS = [
    (name, options)
    for name in names("models")
    if config_class("models", name).gives is Output.EMBEDDING
    for options in LIGHT.get(name, [{}])
]
suite = pytest.mark.parametrize(
    ("name", "options"), NETWORKS, ids=[f"{n}-{o.get('backbone', '')}" for n, o in NETWORKS]
)


def network(name: str, options: dict[str, Any], channels: int = 3, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    built: nn.Module = config_class("models", name)(**options).build(channels, LENGTH, SIDE)
    return built


def pictures(count: int, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def answers(net: nn.Module, batch: Tensor) -> Tensor:
    with torch.no_grad():
        return net.eval()(batch)


@suite
@pytest.mark.parametrize("channels", [1, 3])
def test_gives_directions_while_training_and_after(name: str, options: Any, channels: int) -> None:
    net = network(name, options, channels)
    assert net.training and isinstance(net, Deciding)
    for given in (net(pictures(4, channels)), answers(net, pictures(4, channels))):
        assert given.shape == (4, LENGTH) and given.dtype == torch.float32
        torch.testing.assert_close(given.norm(dim=1), torch.ones(4))


@suite
def test_gradients_reach_every_weight(name: str, options: Any) -> None:
    # In training a batch's mean is taken away, and with it every bias before: its slope is 0 there.
    net = network(name, options).eval()
    with torch.no_grad():
        for weights in net.parameters():  # some start at zero on purpose, and hold back the gradient of others
            weights.add_(0.05 * torch.randn_like(weights))
    learnt = learnt_from(net, pictures(8))
    (learnt * torch.randn_like(learnt)).sum().backward()
    unreached = [key for key, weights in net.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert unreached == []


@suite
def test_a_picture_is_answered_alike_in_any_company(name: str, options: Any) -> None:
    net, batch = network(name, options), pictures(6)
    together, order = answers(net, batch), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(answers(net, batch[order]), together[order])
    torch.testing.assert_close(answers(net, batch[2:3]), together[2:3])
    torch.testing.assert_close(answered(net, learnt_from(net, batch).detach()), together)


@suite
@pytest.mark.parametrize("size", [0.0, 1.0, -1.0, 1e3, -1e3])
def test_extreme_pictures_are_answered_in_finite_numbers(name: str, options: Any, size: float) -> None:
    assert torch.isfinite(answers(network(name, options), torch.full((2, 3, SIDE, SIDE), size))).all()


@suite
def test_the_seed_decides_the_first_weights(name: str, options: Any) -> None:
    first, again, other = (network(name, options, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@suite
def test_saved_and_loaded_it_gives_the_same_answers(name: str, options: Any) -> None:
    net = network(name, options)
    net(pictures(4))  # moves the statistics that belong to the state
    loaded = network(name, options, seed=1)
    loaded.load_state_dict(load(save(net.state_dict())))
    assert torch.equal(answers(loaded, pictures(3)), answers(net, pictures(3)))


@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(*one, marks=[pytest.mark.slow] if "backbone" in one[1] else []) for one in NETWORKS],
)
def test_exported_it_gives_the_same_directions(name: str, options: Any, tmp_path) -> None:
    net = network(name, options)
    net(pictures(4))
    info = BundleInfo(
        task={"name": "face_recognition", "embedding": LENGTH},
        classes=["a", "b"],
        channels=3,
        frame=Frame.model_validate("pad"),
        packed=SIDE,
        size=SIDE,
        mean=[0.5] * 3,
        deviation=[0.25] * 3,
        model={"name": name, **options},
        parameters=1,
        dataset="d" * 64,
    )
    bundle.write(tmp_path, info, net)
    seen = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    opened = Bundle.open(tmp_path)
    told = np.stack(opened.told(seen, opened.views(np.full((5, 2), SIDE))))
    plain = answers(net, (torch.from_numpy(seen).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25)
    assert told == pytest.approx(plain.double().numpy(), abs=1e-5)
    assert (told**2).sum(axis=1) == pytest.approx(np.ones(5), abs=1e-12)


# --- embedding


def test_embedding_says_which_backbones_there_are() -> None:
    config = config_class("models", "embedding")
    with pytest.raises(ValidationError, match="expected convnet, timm/NAME or torchvision/NAME; found 'resnet18'"):
        config(backbone="resnet18")
    with pytest.raises(ValidationError, match="no timm architecture named 'resnet81'. Did you mean 'resnet18'"):
        config(backbone="timm/resnet81")
    with pytest.raises(ValidationError, match="no torchvision architecture named 'resnet1'"):
        config(backbone="torchvision/resnet1")
    with pytest.raises(ValidationError, match="width and depth are of the backbone convnet, and it is 'timm/resnet18'"):
        config(backbone="timm/resnet18", width=8)


def test_embedding_says_which_size_a_backbone_refuses() -> None:
    config = config_class("models", "embedding")(backbone="torchvision/vit_b_16")
    with pytest.raises(UserError, match="vit_b_16 cannot be built for pictures of 30 pixels"):
        config.build(3, LENGTH, 30)


def test_embedding_of_the_convnet_is_as_wide_and_deep_as_asked() -> None:
    config = config_class("models", "embedding")
    plain, narrow, flat = (
        sum(w.numel() for w in config(**options).build(1, LENGTH, SIDE).parameters())
        for options in ({}, {"width": 16}, {"depth": 0})
    )
    classifier = config_class("models", "convnet")().build(1, LENGTH, SIDE)
    # instead of a bias of the last layer, factor and bias of the normalisation
    assert plain == sum(w.numel() for w in classifier.parameters()) + LENGTH
    assert narrow < plain / 3 and flat < plain
