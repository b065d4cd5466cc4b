"""Every network of places in pipeline/models/ meets one contract; what is special to one is checked below it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from torch import Tensor, nn

from pipeline.contracts import ModelConfig, Output
from pipeline.errors import UserError
from pipeline.losses.heatmap import heatmap
from pipeline.losses.wing import wing
from pipeline.networks import Deciding, Pointing, answered, learnt_from
from pipeline.plugin import config_class, names
from pipeline.tasks._placing import Placing

pytestmark = pytest.mark.slow

LIGHT: dict[str, dict[str, Any]] = {"heatmap": {"width": 4, "features": 8, "depth": 3}}
NAMES = [name for name in names("models") if config_class("models", name).gives is Output.POINTS]
SIDE, POINTS = 32, 5


def model(name: str, **options: object) -> ModelConfig:
    light = LIGHT.get(name, {})
    if "backbone" in options:
        light = {"features": light["features"]}  # the others are of our own way down
    return config_class("models", name).model_validate({**light, **options})


def network(name: str, channels: int = 3, seed: int = 0, **options: object) -> Deciding:
    torch.manual_seed(seed)
    net = model(name, **options).build(channels, POINTS, SIDE)
    assert isinstance(net, Deciding)
    return net


def pictures(count: int, channels: int = 3, side: int = SIDE) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def answers(net: nn.Module, batch: Tensor) -> Tensor:
    with torch.no_grad():
        return net.eval()(batch)


def targets(count: int, points: int = POINTS, side: int = SIDE) -> Tensor:
    places = torch.rand(count, points, 2, generator=torch.Generator().manual_seed(2)) * side
    return torch.cat([places, torch.ones(count, points, 1), torch.zeros(count, points, 1)], dim=2)


def test_there_is_one() -> None:
    assert "heatmap" in NAMES


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_gives_places_in_the_picture_and_scores_while_training_and_after(name: str, channels: int) -> None:
    net = network(name, channels)
    assert net.training
    for told in (net(pictures(4, channels)), answers(net, pictures(4, channels))):
        assert told.shape == (4, POINTS, 3) and told.dtype == torch.float32
        assert torch.isfinite(told).all()
        assert (told[..., 2] > 0).all() and (told[..., 2] <= 1 + 1e-6).all()


@pytest.mark.parametrize("name", NAMES)
def test_learns_from_places_and_maps_of_the_picture_that_it_sees(name: str) -> None:
    learnt = learnt_from(network(name), pictures(4))
    assert isinstance(learnt, Pointing) and learnt.side == SIDE and learnt.places.shape == (4, POINTS, 2)
    assert learnt.maps is not None and learnt.maps.shape[:2] == (4, POINTS)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_weight(name: str) -> None:
    net = network(name)
    heatmap(net.raw(pictures(8)), targets(8), sigma=1.0).backward()
    unreached = [key for key, weights in net.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert unreached == []


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_answered_alike_in_any_company(name: str) -> None:
    net, batch = network(name), pictures(6)
    together, order = answers(net, batch), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(answers(net, batch[order]), together[order], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(answers(net, batch[2:3]), together[2:3], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [0.0, 1.0, -1.0, 1e3, -1e3])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_pictures_are_answered_in_finite_numbers(name: str, size: float) -> None:
    assert torch.isfinite(answers(network(name), torch.full((2, 3, SIDE, SIDE), size))).all()


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_gives_the_same_answers(name: str) -> None:
    net = network(name)
    net(pictures(4))  # moves the statistics that belong to the state
    loaded = network(name, seed=1)
    loaded.load_state_dict(load(save(net.state_dict())))
    assert torch.equal(answers(loaded, pictures(3)), answers(net, pictures(3)))


@pytest.mark.parametrize("name", NAMES)
def test_exported_it_gives_the_same_answers_for_any_number_of_pictures(name: str) -> None:
    exports_alike(network(name))


def exports_alike(net: nn.Module) -> None:
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(net.eval(), (pictures(3),), dynamic_shapes=({0: batch},), strict=False)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    again = torch.export.load(file).module()
    for count in (2, 7):
        with torch.no_grad():
            torch.testing.assert_close(again(pictures(count)), answers(net, pictures(count)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("loss", [heatmap, wing])
@pytest.mark.parametrize("name", NAMES)
def test_learns_a_few_pictures_by_heart(name: str, loss: Any) -> None:
    torch.set_num_threads(1)
    net, batch, wanted = network(name, depth=2), pictures(6), targets(6)
    options = {"sigma": 1.0} if loss is heatmap else {"width": 10.0, "curvature": 2.0}
    if loss is wing:
        net.radius = 99  # what a loss of distances teaches is the mean of all of a map
    stepper = torch.optim.AdamW(net.parameters(), lr=0.01)
    for _ in range(60 if loss is heatmap else 200):
        stepper.zero_grad()
        loss(learnt_from(net, batch), wanted, **options).backward()
        stepper.step()
    told = answered(net, learnt_from(net, batch)).detach()
    assert (told[..., :2] - wanted[..., :2]).abs().mean() < 1.5


# --- heatmap


@pytest.mark.parametrize(("stride", "cells"), [(2, 16), (4, 8), (8, 4)])
def test_heatmap_has_cells_of_the_stride(stride: int, cells: int) -> None:
    raw = network("heatmap", stride=stride, margin=0).raw(pictures(2))
    assert raw.maps is not None and raw.maps.shape[2:] == (cells, cells)


def test_heatmap_takes_pictures_that_cannot_be_halved_evenly() -> None:
    net = model("heatmap").build(1, 3, 45)
    raw = net.raw(pictures(2, 1, 45))
    assert raw.maps.shape == (2, 3, 16, 16) and (raw.side, raw.margin) == (45, 8)


def test_what_a_backbone_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="depth is 3, which is of our own way down, and backbone is set; leave it out"):
        model("heatmap", backbone="test_resnet", depth=3)
    assert model("heatmap", depth=3)


def test_heatmap_on_a_backbone_of_timm() -> None:
    net = network("heatmap", backbone="test_resnet")
    raw = net.raw(pictures(2))
    assert raw.maps is not None and raw.maps.shape[2:] == (12, 12)
    exports_alike(net)


def test_heatmap_refuses_what_cannot_be_built() -> None:
    with pytest.raises(ValidationError, match="no timm architecture named 'resnet81'. Did you mean 'resnet18'"):
        model("heatmap", backbone="resnet81")
    with pytest.raises(
        UserError, match="model: a picture of 16 pixels cannot be halved 5 times: set model.depth lower"
    ):
        model("heatmap", depth=5).build(3, 5, 16)
    expected = "model.stride: test_convnext has no map of 2 pixels a cell, but of 4, 8, 16, 32. Take one of these"
    with pytest.raises(UserError, match=expected):
        model("heatmap", backbone="test_convnext", stride=2).build(3, 5, 32)


def test_a_gaussian_is_answered_to_a_hundredth_of_a_cell_wherever_it_lies() -> None:
    net = network("heatmap")
    places = torch.tensor([[13.3, 14.9], [-1.0, 40.2], [17.9, 64.7], [33.7, 33.7], [57.6, 15.5]])
    middles = (torch.arange(22) + 0.5) * 4 - 12
    apart = (middles - places[:, :1])[:, None, :] ** 2 + (middles - places[:, 1:])[:, :, None] ** 2
    told = net.answer(Pointing(torch.zeros(1, 5, 2), 64, (-apart / (2 * 4.0**2))[None], margin=12))[0]
    assert (told[:, :2] - places).abs().max() < 0.04
    assert (told[:, 2] > 0.99).all()


def test_of_two_peaks_the_higher_is_the_answer_and_its_share_the_score() -> None:
    maps = torch.full((1, 1, 12, 12), -30.0)
    maps[0, 0, 2, 3], maps[0, 0, 10, 9] = np.log(0.75), np.log(0.25)
    net = model("heatmap", radius=2).build(3, 1, 48)
    (told,) = net.answer(Pointing(torch.zeros(1, 1, 2), 48, maps))[0]
    assert told.tolist() == pytest.approx([3.5 * 4, 2.5 * 4, 0.75])
    assert net.radius == 2


# --- a vector as places


def test_a_vector_says_places_from_the_middle_in_quarters_of_any_side() -> None:
    class Says(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            return torch.tensor([0.0, 0.0, 1.0, -2.0]).expand(len(pictures), 4)

    for side in (32, 64):
        net = Placing(Says())
        raw = learnt_from(net, torch.zeros(2, 3, side, side))
        assert raw.side == side and raw.maps is None
        assert net(torch.zeros(2, 3, side, side))[1].tolist() == [[side / 2, side / 2, 1], [0.75 * side, 0, 1]]


def test_a_classifier_as_places_is_exported_alike() -> None:
    exports_alike(Placing(config_class("models", "convnet")(width=4).build(3, 2 * POINTS, SIDE)))


def test_a_classifier_that_does_not_average_sees_every_place_of_its_last_maps() -> None:
    pooled, placed = (config_class("models", "convnet")(width=8, pooled=on).build(3, 4, SIDE) for on in (True, False))
    assert (pooled[-1].in_features, placed[-1].in_features) == (32, 32 * 4 * 4)
    assert set(pooled.state_dict()) == set(placed.state_dict())
    assert answers(placed, pictures(2)).shape == (2, 4)
