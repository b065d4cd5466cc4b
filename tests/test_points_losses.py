"""Losses of points: by hand, by numeric gradients, and with nothing for what is not known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.contracts import Output, Target
from pipeline.losses._points import on_grid
from pipeline.networks import Pointing
from pipeline.plugin import config_class, names

WITH_MAPS = [name for name in names("losses") if (Output.POINTS, Target.POINTS) in config_class("losses", name).takes]
VECTORS = [name for name in names("losses") if (Output.VECTOR, Target.POINTS) in config_class("losses", name).takes]
SIDE = 50


def loss(name: str, **options: float) -> nn.Module:
    return config_class("losses", name)(**options).build([1, 1], 2)


def true(*rows: tuple[float, float, float]) -> Tensor:
    """x, y, known of the points of one picture."""
    return torch.tensor([[[*row, 0.0] for row in rows]])


def said(*rows: tuple[float, float], side: int = SIDE) -> Pointing:
    return Pointing(torch.tensor([rows]), side)


def maps(places: Tensor, side: int = SIDE, cells: int = 10, margin: int = 0, sigma: float = 1.0) -> Pointing:
    """What a network says that is right: Gaussians around places [B, J, 2], of so many cells."""
    grown = (places + margin) * cells / (side + 2 * margin)
    middles = torch.arange(cells, dtype=places.dtype) + 0.5
    apart = [(middles - grown[..., axis, None]) ** 2 for axis in (0, 1)]
    logits = -(apart[1][..., :, None] + apart[0][..., None, :]) / (2 * sigma**2)
    return Pointing(places, side, logits, margin)


def pictures(count: int = 4, seed: int = 0) -> tuple[Pointing, Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 3, 5, 5, generator=random, dtype=torch.float64)
    places = torch.rand(count, 3, 2, generator=random, dtype=torch.float64) * SIDE
    wanted = torch.rand(count, 3, 2, generator=random, dtype=torch.float64) * SIDE
    known = torch.rand(count, 3, 1, generator=random, dtype=torch.float64).round()
    known[0, 0] = 1
    return Pointing(places, SIDE, logits), torch.cat([wanted * known, known, torch.zeros_like(known)], dim=2)


def test_there_are_some_of_each() -> None:
    assert {"wing", "mean_squared_error", "mean_absolute_error", "huber"} == set(VECTORS)
    assert {"heatmap", "dsnt", *VECTORS} == set(WITH_MAPS)


def test_coordinates_cost_in_hundredths_of_the_side_by_hand() -> None:
    # 1 of 50 pixels is 2 hundredths: x off by 2, y by 4; of the second point x by 0 and y by 20
    answer, wanted = said((11.0, 8.0), (30.0, 40.0)), true((10, 10, 1), (30, 30, 1))
    assert loss("mean_absolute_error")(answer, wanted).item() == pytest.approx((2 + 4 + 0 + 20) / 4)
    assert loss("mean_squared_error")(answer, wanted).item() == pytest.approx((4 + 16 + 0 + 400) / 4)
    assert loss("huber", delta=3.0)(answer, wanted).item() == pytest.approx((2 + 3 * 2.5 + 0 + 3 * 18.5) / 4)


def test_wing_by_hand() -> None:
    # the logarithm below 10 hundredths, 10 ln(1 + e / 2); beyond them e - (10 - 10 ln 6)
    answer, wanted = said((11.0, 8.0), (30.0, 40.0)), true((10, 10, 1), (30, 30, 1))
    expected = 10 * math.log(2) + 10 * math.log(3) + 0 + 20 - (10 - 10 * math.log(6))
    assert loss("wing")(answer, wanted).item() == pytest.approx(expected / 4)
    edges = [loss("wing")(said((10.0 + off, 10.0)), true((10, 10, 1))).item() for off in (4.9999, 5.0001)]
    assert edges[0] == pytest.approx(edges[1], abs=1e-3)  # both parts meet at 10 hundredths


def test_heatmap_by_hand() -> None:
    # flat over 4 cells, against a Gaussian of deviation 1 at the middle of the first: its divergence from 1/4 each
    answer = Pointing(torch.zeros(1, 1, 2), 2, torch.zeros(1, 1, 2, 2))
    near = 1 / (1 + math.exp(-0.5))
    shares = [a * b for a in (near, 1 - near) for b in (near, 1 - near)]
    expected = sum(share * math.log(4 * share) for share in shares)
    assert loss("heatmap")(answer, true((0.5, 0.5, 1))).item() == pytest.approx(expected, rel=1e-5)


def test_dsnt_by_hand() -> None:
    # the mean is 3 right and 4 below on a side of 50: 5 of 25 halves; the maps are the same
    places = torch.tensor([[[25.0, 25.0]]])
    answer = replace(maps(places), places=torch.tensor([[[28.0, 29.0]]]))
    assert loss("dsnt")(answer, true((25, 25, 1))).item() == pytest.approx(5 / 25, rel=1e-4)
    # maps with nothing in common are ln 2 apart
    wrong = replace(maps(torch.tensor([[[2.5, 2.5]]]), sigma=0.2), places=places)
    assert loss("dsnt", sigma=0.2)(wrong, true((47.5, 47.5, 1))).item() == pytest.approx(
        2 * math.hypot(22.5, 22.5) / 50 + math.log(2), rel=1e-4
    )


@pytest.mark.parametrize("name", WITH_MAPS)
def test_the_truth_costs_nothing_and_what_is_nearer_costs_less(name: str) -> None:
    place = torch.tensor([[[20.0, 30.0]]])
    costs = [loss(name)(maps(place + off), true((20, 30, 1))).item() for off in (0.0, 0.5, 2.0, 8.0)]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(0, abs=1e-5) and costs[-1] > costs[0] + 0.1


@pytest.mark.parametrize("name", WITH_MAPS)
def test_a_point_that_is_not_known_costs_nothing_and_pulls_nothing(name: str) -> None:
    answer, wanted = pictures()
    more = Pointing(
        torch.cat([answer.places, answer.places[:, :1] * 7], dim=1).requires_grad_(),
        SIDE,
        torch.cat([answer.maps, answer.maps[:, :1] * 3], dim=1).requires_grad_(),
    )
    padded = torch.cat([wanted, torch.zeros(len(wanted), 1, 4, dtype=wanted.dtype)], dim=1)
    cost = loss(name)(more, padded)
    assert cost.item() == pytest.approx(loss(name)(answer, wanted).item())
    cost.backward()
    for part in (more.places, more.maps):
        assert part.grad is None or (part.grad[:, -1] == 0).all()


@pytest.mark.parametrize("name", WITH_MAPS)
def test_without_a_known_point_a_batch_costs_zero(name: str) -> None:
    answer, wanted = pictures()
    assert loss(name)(answer, wanted * 0).item() == 0


@pytest.mark.parametrize("name", WITH_MAPS)
def test_order_of_the_batch_does_not_matter(name: str) -> None:
    answer, wanted = pictures()
    order = torch.tensor([2, 0, 3, 1])
    turned = Pointing(answer.places[order], SIDE, answer.maps[order])
    assert loss(name)(turned, wanted[order]).item() == pytest.approx(loss(name)(answer, wanted).item(), rel=1e-12)


@pytest.mark.parametrize("name", WITH_MAPS)
def test_gradient_is_the_numeric_one(name: str) -> None:
    answer, wanted = pictures(2)
    part = loss(name)

    def cost(places: Tensor, logits: Tensor) -> Tensor:
        return part(Pointing(places, SIDE, logits), wanted)

    assert torch.autograd.gradcheck(cost, (answer.places.requires_grad_(), answer.maps.requires_grad_()))


@pytest.mark.parametrize("name", WITH_MAPS)
def test_extremes_stay_finite_with_their_gradients(name: str) -> None:
    logits = (torch.tensor([1e4, -1e4]).repeat(8).view(1, 1, 4, 4)).requires_grad_()
    places = torch.tensor([[[1e4, -1e4]]], requires_grad=True)
    cost = loss(name)(Pointing(places, SIDE, logits), true((1, 1, 1)))
    cost.backward()
    assert torch.isfinite(cost)
    assert all(part.grad is None or torch.isfinite(part.grad).all() for part in (places, logits))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", WITH_MAPS)
def test_half_precision_does_not_reach_them(name: str, kind: torch.dtype) -> None:
    answer, wanted = pictures()
    sure = Pointing(answer.places.float(), SIDE, (1e3 * answer.maps).float().requires_grad_())
    plain = loss(name)(sure, wanted.float())
    with torch.autocast("cpu", kind):
        half = loss(name)(sure, wanted.float())
    assert half.item() == plain.item()
    if plain.requires_grad:  # that of maps
        slopes = [torch.autograd.grad(cost, sure.maps)[0] for cost in (half, plain)]
        assert torch.equal(*slopes)


@pytest.mark.parametrize("name", VECTORS)
def test_pictures_of_any_size_cost_alike(name: str) -> None:
    small, wanted = said((11.0, 8.0), (30.0, 40.0)), true((10, 10, 1), (30, 30, 1))
    large = Pointing(small.places * 4, 4 * SIDE)
    times = torch.tensor([4.0, 4, 1, 1])
    assert loss(name)(large, wanted * times).item() == pytest.approx(loss(name)(small, wanted).item(), rel=1e-6)


def test_a_point_beyond_the_margin_is_looked_for_at_the_edge_until_no_cell_is_near() -> None:
    answer = maps(torch.zeros(1, 4, 2), margin=5, cells=12)
    rows, columns, near = on_grid(answer, true((-5, 25, 1), (-19, 25, 1), (-21, 25, 1), (30, 30, 0)), sigma=1.0)
    assert near.tolist() == [[True, True, False, True]]  # cells of 5 pixels: three of them beyond -5 are -20
    assert columns.exp().sum(dim=-1) == pytest.approx(torch.ones(1, 4))
    assert columns[0, 1].argmax() == 0 and rows[0, 1].argmax() in (5, 6)


@pytest.mark.parametrize("name", ["heatmap", "dsnt"])
def test_a_point_outside_of_the_picture_is_told_on_the_margin(name: str) -> None:
    place = torch.tensor([[[-3.0, 52.0]]])
    cost = loss(name)(maps(place, margin=10, cells=14), true((-3, 52, 1)))
    assert cost.item() == pytest.approx(0, abs=1e-5)
