"""The losses of embeddings: by the equations of their papers, with their slopes, and what they hold of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pipeline.contracts import Output, Target
from pipeline.losses._directions import against_each_other, straight
from pipeline.plugin import config_class, names
from pipeline.training import Weighing

LOSSES = [n for n in names("losses") if (Output.EMBEDDING, Target.IDENTITY) in config_class("losses", n).takes]
CENTRED = ["arcface", "cosface"]


def loss(name: str, counts: Sequence[int] = (5, 5, 5), outputs: int = 4, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return config_class("losses", name)(**options).build(counts, outputs)


def sample(count: int, outputs: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    people = torch.arange(count) % 3
    return torch.randn(count, outputs, generator=random, dtype=torch.float64), people


def turned(*degrees: float) -> Tensor:
    turns = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([turns.cos(), turns.sin()], dim=1)


def with_centres(name: str, *degrees: float, **options: Any) -> nn.Module:
    part = loss(name, [5] * len(degrees), 2, **options).double()
    with torch.no_grad():
        part.centres.copy_(3 * turned(*degrees))
    return part


def test_there_are_losses_of_embeddings():
    assert set(LOSSES) >= {"arcface", "cosface", "triplet", "supervised_contrastive"}


# --- what all of them keep


@pytest.mark.parametrize("name", LOSSES)
def test_only_directions_count(name: str) -> None:
    part = loss(name).double()
    told, people = sample(9)
    longer = told * torch.linspace(0.01, 100, 9, dtype=torch.float64)[:, None]
    for mode in (True, False):
        part.train(mode)
        assert part(longer, people).item() == pytest.approx(part(told, people).item(), rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_order_of_the_batch_does_not_matter(name: str) -> None:
    part, order = loss(name).double(), torch.randperm(9, generator=torch.Generator().manual_seed(1))
    told, people = sample(9)
    for mode in (True, False):
        part.train(mode)
        assert part(told[order], people[order]).item() == pytest.approx(part(told, people).item(), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_the_numeric_one(name: str) -> None:
    part = loss(name).double()
    told, people = sample(6, seed=2)
    assert torch.autograd.gradcheck(lambda given: part(given, people), told.requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [0.0, 1e-20, 1.0, 1e30])
def test_extremes_stay_finite_with_their_gradients(name: str, size: float) -> None:
    told = torch.tensor([[size, 0, 0, 0], [size, 0, 0, 0], [-size, 0, 0, 0], [0, size, size, 0]], requires_grad=True)
    part = loss(name)
    if hasattr(part, "centres"):
        with torch.no_grad():
            part.centres.copy_(torch.eye(4)[:3])  # an angle of 0 to the own one, and of 180 degrees
    for mode in (True, False):
        cost = part.train(mode)(told, torch.tensor([0, 0, 1, 1]))
        cost.backward()
        assert torch.isfinite(cost) and cost >= 0
        assert torch.isfinite(told.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_pairs_costs_nothing_while_validating(name: str) -> None:
    part = loss(name).eval()
    told = torch.randn(3, 4, requires_grad=True)
    cost = part(told, torch.tensor([0, 1, 2]))
    cost.backward()
    assert cost.item() == 0 and not told.grad.any()


@pytest.mark.parametrize("name", [*CENTRED, "supervised_contrastive"])
def test_images_without_another_of_their_person_weigh_nothing_while_validating(name: str) -> None:
    part = loss(name).double().eval()
    people = torch.tensor([0, 0, 1, 1, 2, 3, 4])
    assert isinstance(part, Weighing)
    assert part.total_weight(people) == 4 and part.total_weight(people[4:]) == 0
    while_learning = 7 if name in CENTRED else 4  # each has a centre to be near to
    assert part.train().total_weight(people) == while_learning


@pytest.mark.parametrize("name", LOSSES)
def test_people_who_were_never_learnt_are_validated(name: str) -> None:
    part = loss(name, (5, 0, 5, 0, 0)).eval()  # of people 1, 3 and 4 there are no training images
    near = torch.tensor([[1.0, 0.1, 0, 0], [1, 0, 0.1, 0], [0, 1, 0, 0], [0, 1, 0.1, 0], [0, 0, 0, 1]])
    people = torch.tensor([1, 1, 3, 3, 4])
    good, bad = part(near, people), part(near, people[[0, 2, 1, 3, 4]])
    assert torch.isfinite(good) and 0 <= good < bad


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_does_not_reach_the_angles(name: str) -> None:
    part = loss(name)
    told, people = sample(9)
    plain = part(told.float(), people)
    with torch.autocast("cpu", torch.bfloat16):
        assert part(told.float(), people).item() == plain.item()


# --- ArcFace and CosFace


@pytest.mark.parametrize("name", CENTRED)
def test_without_a_margin_it_is_cross_entropy_of_cosines(name: str) -> None:
    part = loss(name, margin=0, scale=7).double()
    told, people = sample(9)
    cosines = straight(told) @ straight(part.centres.detach()).T
    expected = nn.functional.cross_entropy(7 * cosines, people)
    # sines below 3e-4 are taken for that, and are multiplied by 0 here
    assert part(told, people).item() == pytest.approx(expected.item(), rel=1e-12)


def test_arcface_by_equation_3():
    part = with_centres("arcface", 0, 90, 200, margin=0.5, scale=8)
    own = math.exp(8 * math.cos(math.radians(20) + 0.5))
    others = math.exp(8 * math.cos(math.radians(70))) + math.exp(8 * math.cos(math.radians(180)))
    assert part(2 * turned(20), torch.tensor([0])).item() == pytest.approx(-math.log(own / (own + others)))
    both = part(turned(20, 100), torch.tensor([0, 1])).item()
    own = math.exp(8 * math.cos(math.radians(10) + 0.5))
    others = math.exp(8 * math.cos(math.radians(100))) + math.exp(8 * math.cos(math.radians(100)))
    assert both == pytest.approx((part(turned(20), torch.tensor([0])).item() - math.log(own / (own + others))) / 2)


def test_arcface_keeps_growing_beyond_180_degrees_minus_the_margin():
    part = with_centres("arcface", 0, 90, margin=0.5, scale=8)
    worsened = part.worsened(torch.linspace(1, -1, 101, dtype=torch.float64)).tolist()
    assert worsened == sorted(worsened, reverse=True)
    own = math.exp(8 * (math.cos(math.radians(170)) - 0.5 * math.sin(0.5)))
    other = math.exp(8 * math.cos(math.radians(260)))
    assert part(turned(-170), torch.tensor([0])).item() == pytest.approx(-math.log(own / (own + other)))


def test_cosface_by_equation_4():
    part = with_centres("cosface", 0, 90, 200, margin=0.35, scale=8)
    own = math.exp(8 * (math.cos(math.radians(20)) - 0.35))
    others = math.exp(8 * math.cos(math.radians(70))) + math.exp(8 * math.cos(math.radians(180)))
    assert part(2 * turned(20), torch.tensor([0])).item() == pytest.approx(-math.log(own / (own + others)))


@pytest.mark.parametrize("name", CENTRED)
def test_there_are_centres_of_the_people_to_learn_from_alone(name: str) -> None:
    part = loss(name, (0, 5, 0, 3, 1), outputs=6)
    assert part.centres.shape == (3, 6) and part.places.tolist() == [-1, 0, -1, 1, 2]
    told = torch.randn(4, 6)
    cost = part(told, torch.tensor([1, 3, 4, 4]))
    cost.backward()
    assert part.centres.grad.abs().sum(dim=1).gt(0).all()


@pytest.mark.parametrize("name", CENTRED)
def test_the_library_has_the_same_numbers(name: str) -> None:
    from pytorch_metric_learning import losses

    kind, margin = {"arcface": (losses.ArcFaceLoss, math.degrees(0.4)), "cosface": (losses.CosFaceLoss, 0.4)}[name]
    theirs = kind(num_classes=3, embedding_size=4, margin=margin, scale=10).double()
    ours = loss(name, margin=0.4, scale=10).double()
    with torch.no_grad():
        theirs.W.copy_(ours.centres.T)
    told, people = sample(9)
    assert ours(told, people).item() == pytest.approx(theirs(told, people).item(), rel=1e-9)


def test_each_image_is_held_against_the_others_of_its_person():
    told, people = turned(0, 10, 40, 100, 200), torch.tensor([7, 7, 7, 3, 3])
    cosines, own, several = against_each_other(told, people)
    assert own.tolist() == [1, 1, 1, 0, 0] and several.all()
    # the mean of 10 and 40 is 25; of 0 and 40, 20; of 0 and 10, 5; of 100 and 200 alone each other
    angles = torch.rad2deg(torch.arccos(cosines.clamp(-1, 1)))
    assert angles[[0, 1, 2], 1].tolist() == pytest.approx([25, 10, 35])
    assert angles[[3, 4], 0].tolist() == pytest.approx([100, 100])
    assert angles[0, 0].item() == pytest.approx(150)  # of all of a person who is another
    assert not against_each_other(told[2:4], people[2:4])[2].any()


# --- triplets and contrasts


def test_triplets_by_hand():
    # distances: a 0-30, b 50-90; of both mining kinds each image is an anchor
    told, people = turned(0, 30, 50, 90), torch.tensor([0, 0, 1, 1])

    def apart(angle: float) -> float:
        return 1 - math.cos(math.radians(angle))

    hard = [(30, 50), (30, 20), (40, 20), (40, 60)]  # farthest own, nearest other of each image
    costs = [max(0, 0.2 + apart(own) - apart(other)) for own, other in hard]
    found = loss("triplet", mining="hard", margin=0.2)(told, people).item()
    assert found == pytest.approx(sum(costs) / sum(cost > 0 for cost in costs))
    every = [(30, 50), (30, 90), (30, 20), (30, 60), (40, 50), (40, 20), (40, 90), (40, 60)]
    costs = [max(0, 0.2 + apart(own) - apart(other)) for own, other in every]
    found = loss("triplet", mining="all", margin=0.2)(told, people).item()
    assert found == pytest.approx(sum(costs) / sum(cost > 0 for cost in costs))
    semihard = [cost for cost in costs if 0 < cost <= 0.2]
    found = loss("triplet", mining="semihard", margin=0.2)(told, people).item()
    assert found == pytest.approx(sum(semihard) / len(semihard) if semihard else 0)


def test_supervised_contrast_by_equation_2():
    told, people = turned(0, 30, 40, 90, 200), torch.tensor([0, 0, 0, 1, 1])
    alike = (straight(told) @ straight(told).T / 0.5).exp()
    total = 0.0
    for i in range(5):
        others = [k for k in range(5) if k != i]
        own = [k for k in others if people[k] == people[i]]
        total -= sum(math.log(alike[i, k] / alike[i, others].sum()) for k in own) / len(own)
    found = loss("supervised_contrastive", temperature=0.5)(told, people).item()
    assert found == pytest.approx(total / 5, rel=1e-6)
    alone = loss("supervised_contrastive", temperature=0.5)(turned(0, 30, 90), torch.tensor([0, 0, 1])).item()
    alike = [math.exp(2 * math.cos(math.radians(angle))) for angle in (30, 90, 60)]
    expected = -(math.log(alike[0] / (alike[0] + alike[1])) + math.log(alike[0] / (alike[0] + alike[2]))) / 2
    assert alone == pytest.approx(expected, rel=1e-6)  # the third has nobody to be like, and counts for nothing


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("arcface", {"margin": -0.1}),
        ("arcface", {"margin": 1.6}),
        ("cosface", {"scale": 0}),
        ("triplet", {"mining": "soft"}),
        ("supervised_contrastive", {"temperature": 0}),
    ],
)
def test_options_have_limits(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        loss(name, **options)
