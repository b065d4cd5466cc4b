"""Our own YOLO: its sizes, which place learns which object, what errors cost, and where answers were said.

What it shares with every detector is in tests/test_detectors.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou, sigmoid_focal_loss

from pipeline.errors import UserError
from pipeline.losses.detection import Config as Detection
from pipeline.losses.detection import box_loss, class_loss, detection_loss, distribution_loss
from pipeline.models import yolo
from pipeline.models._detection.matching import Truth, overlaps, truths
from pipeline.models._yolo.assignment import Assigned, Rule, assigned, within
from pipeline.models._yolo.layers import PooledSizes
from pipeline.models._yolo.network import Yolo
from pipeline.models._yolo.places import Places
from pipeline.networks import BACKGROUND, IGNORED, Costs, Matched

RULE = Rule(most=2, score_power=1.0, overlap_power=2.0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(size: int = 64, classes: int = 3, channels: int = 3, seed: int = 0, **options: Any) -> Yolo:
    torch.manual_seed(seed)
    net = yolo.Config.model_validate({"width": 32, "depth": 1, **options}).build(channels, classes, size)
    assert isinstance(net, Yolo)
    return net


def pictures(count: int, side: int = 64, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def truth_of(*pictures: list[tuple[float, ...]]) -> Truth:
    """Of each picture x1, y1, x2, y2, class, crowd."""
    rows = torch.full((len(pictures), max(map(len, pictures)), 6), -1.0)
    for picture, given in enumerate(pictures):
        rows[picture, : len(given)] = torch.tensor(given).view(-1, 6)
    return truths(rows)


# --- sizes


@pytest.mark.parametrize(
    ("size", "weights"), [("n", 1_953_632), ("s", 7_771_696), ("m", 22_646_976), ("l", 49_456_592)]
)
def test_weights_of_each_size_are_those_that_are_stated(size: str, weights: int) -> None:
    net = yolo.Config.model_validate({"size": size}).build(3, 80, 128)  # large enough for every map
    assert sum(each.numel() for each in net.parameters()) == weights
    assert yolo.__doc__ is not None and f"{weights:,}" in yolo.__doc__


@pytest.mark.parametrize(
    ("side", "finest", "strides", "sides"),
    [(320, 8, [8, 16, 32], [40, 20, 10]), (64, 8, [8, 16], [8, 4]), (100, 4, [4, 8, 16], [25, 13, 7])],
)
def test_maps(side: int, finest: int, strides: list[int], sides: list[int]) -> None:
    net = network(side, finest=finest)
    assert (net.trunk.strides, net.trunk.sides) == (strides, sides)
    raw = net.raw(pictures(2, side))
    count = sum(each * each for each in sides)
    assert raw.logits.shape == (2, count, 3) and raw.sides.shape == (2, count, 4, 16)
    assert raw.boxes().shape == (2, count, 4)


def test_before_it_learns_nearly_all_is_background_and_boxes_are_four_strides_wide() -> None:
    net = network(128)
    raw = net.raw(pictures(2, 128))
    assert raw.logits.sigmoid().mean().item() == pytest.approx(0.01, abs=0.002)
    sides = raw.boxes()[..., 2:] - raw.boxes()[..., :2]
    assert (sides / net.places.strides).mean().item() == pytest.approx(4, abs=0.3)


def test_pooling_in_a_row_sees_squares_of_5_9_and_13() -> None:
    layer, maps = PooledSizes(4).eval(), torch.randn(1, 4, 16, 16)
    narrow = layer.narrowing(maps)
    seen = [narrow, *(F.max_pool2d(narrow, side, 1, side // 2) for side in (5, 9, 13))]
    torch.testing.assert_close(layer(maps), layer.joining(torch.cat(seen, dim=1)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("backbone", ["timm/test_resnet", "tiny", "own"])
def test_backbones_are_learnt_to_the_last_weight(backbone: str, channels: int) -> None:
    net = network(channels=channels, backbone=backbone)
    rows = torch.tensor([[[4.0, 4, 30, 30, 0, 0], [1, 1, 62, 60, 2, 0], [30, 40, 40, 50, 1, 0]]]).expand(2, 3, 6)
    loss = Detection().build([1] * 3, 3)
    for weights in net.parameters():  # some start at zero on purpose
        weights.data.add_(0.03 * torch.randn_like(weights))
    loss(net.raw(pictures(2, channels=channels)), rows).backward()
    assert [key for key, each in net.named_parameters() if each.grad is None or not each.grad.any()] == []


def test_an_unknown_backbone_and_pictures_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValidationError, match="no torchvision architecture named 'resnet81'. Did you mean 'resnet18'?"):
        network(backbone="resnet81")
    with pytest.raises(UserError, match="needs pictures of 32 pixels or more, and augment.size is 28"):
        network(size=28)


def test_weights_of_another_training_come_into_the_body(tmp_path: Path) -> None:
    given = network(128, seed=1)
    path, weights = tmp_path / "weights.safetensors", given.trunk.body.state_dict()
    save_file({f"trunk.body.{key}": tensor for key, tensor in weights.items()}, path)
    taken = network(64, weights=str(path)).trunk.body.state_dict()  # it has one stage less
    assert 0 < len(taken) < len(weights)
    assert all(torch.equal(tensor, weights[key]) for key, tensor in taken.items())


# --- places


def test_places_by_hand() -> None:
    places = Places([8, 16], [2, 1])
    assert places.middles.tolist() == [[4, 4], [12, 4], [4, 12], [12, 12], [8, 8]]
    assert places.squares[1].tolist() == [8, 0, 16, 8] and places.squares[4].tolist() == [0, 0, 16, 16]
    boxes = places.decoded(torch.tensor([[0.5, 0.25, 1.0, 2.0]] * 5))
    assert boxes[1].tolist() == [8, 2, 20, 20] and boxes[4].tolist() == [0, 4, 24, 40]
    at = torch.tensor([4, 1])
    assert places.encoded(boxes[at], at).tolist() == [[0.5, 0.25, 1.0, 2.0]] * 2


def test_a_distance_is_the_mean_of_its_distribution() -> None:
    net = network(bins=4)
    chances = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(net.expected(chances.log()), torch.tensor([2.0, 1.0]))


# --- which place learns which object


def test_a_place_is_in_an_object_or_is_the_nearest_one() -> None:
    places = Places([8, 16], [2, 1])
    objects = torch.tensor([[0.0, 0, 9, 9], [6, 9, 11, 11], [0, 0, 16, 16]])
    # the first holds two middles; the second none, and (4, 12) is nearest to its own; the third holds all
    assert within(objects, places).tolist() == [
        [True, False, False, False, True],
        [False, False, False, True, False],
        [True] * 5,
    ]


def test_overlaps_are_those_of_torchvision() -> None:
    random = torch.Generator().manual_seed(0)
    corners = 50 * torch.rand(30, 2, generator=random)
    boxes = torch.cat([corners, corners + 40 * torch.rand(30, 2, generator=random)], dim=1)
    assert torch.equal(overlaps(boxes[:7], boxes[None]), box_iou(boxes[:7], boxes))
    each = boxes[torch.randint(30, (7, 9), generator=random)]
    expected = [box_iou(boxes[row : row + 1], each[row])[0] for row in range(7)]
    assert torch.equal(overlaps(boxes[:7], each), torch.stack(expected))
    assert overlaps(torch.zeros(1, 4), torch.zeros(1, 2, 4)).tolist() == [[0, 0]]  # neither has an area


def test_the_best_places_of_an_object_by_hand() -> None:
    places = Places([8], [2])  # middles (4, 4), (12, 4), (4, 12), (12, 12)
    truth = truth_of([(0, 0, 16, 16, 1, 0)])
    boxes = torch.tensor([[0.0, 0, 16, 16], [0, 0, 16, 8], [0, 0, 16, 12], [0, 0, 16, 4]])  # IoU 1, 1/2, 3/4, 1/4
    scores = torch.tensor([[0.9, 0.1], [0.9, 0.8], [0.9, 0.6], [0.9, 0.9]])  # of class 1: .1, .8, .6, .9
    # score * IoU**2: 0.1, 0.2, 0.3375, 0.05625; the two best are the second and the third
    found = assigned(scores[None], boxes[None], places, truth, RULE)
    assert found.labels.tolist() == [[BACKGROUND, 1, 1, BACKGROUND]] and found.places.tolist() == [1, 2]
    # the best one shall say the largest IoU among them, the other as much less as it is worse
    assert found.scores.tolist() == pytest.approx([0.75 * 0.2 / 0.3375, 0.75])
    assert found.shares.tolist() == pytest.approx([0.2 / 0.3375, 1])


def test_a_place_of_two_objects_is_at_the_one_that_it_tells_better() -> None:
    places = Places([8], [2])
    truth = truth_of([(0, 0, 16, 16, 0, 0), (0, 0, 8, 8, 0, 0)])
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 16, 16], [0, 0, 16, 16], [0, 0, 16, 16]])
    found = assigned(torch.full((1, 4, 1), 0.5), boxes[None], places, truth, Rule(4, 1.0, 1.0))
    assert found.objects.tolist() == [1, 0, 0, 0]
    assert found.scores.tolist() == pytest.approx([1, 1, 1, 1])


def test_places_of_a_batch_crowds_and_pictures_without_objects() -> None:
    places = Places([8], [2])
    truth = truth_of([(0, 0, 7, 7, 2, 0), (8, 0, 16, 16, 0, 1)], [], [(9, 9, 16, 16, 1, 0)])
    boxes, scores = places.squares.expand(3, 4, 4), torch.full((3, 4, 3), 0.1)
    found = assigned(scores, boxes, places, truth, RULE)
    assert isinstance(found, Assigned)
    assert found.labels.tolist() == [
        [2, IGNORED, BACKGROUND, IGNORED],
        [BACKGROUND] * 4,
        [BACKGROUND, BACKGROUND, BACKGROUND, 1],
    ]
    assert found.places.tolist() == [0, 11] and found.objects.tolist() == [0, 1] and found.counts == [1, 0, 1]
    assert found.boxes.tolist() == [[0, 0, 7, 7], [9, 9, 16, 16]]
    assert found.scores.tolist() == pytest.approx([49 / 64, 49 / 64])
    assert found.shares.tolist() == [1, 1]


def test_what_is_judged_by_hand() -> None:
    net = network(32, classes=2, bins=8)
    raw = net.raw(pictures(1, 32))
    rows = torch.tensor([[[2.0, 4, 20, 30, 1, 0], [25, 25, 31, 31, 0, 0]]])
    at = raw.assigned(truths(rows))
    (told,) = raw.matched(rows)
    assert set(at.objects.tolist()) == {0, 1} and (at.scores > 0).all()
    assert told.labels.flatten()[at.places].tolist() == [[1, 0][each] for each in at.objects.tolist()]
    torch.testing.assert_close(told.boxes, raw.boxes().flatten(0, 1)[at.places])
    torch.testing.assert_close(net.places.decoded(told.true_codes, at.places), told.true_boxes, atol=1e-4, rtol=0)
    total = at.scores.sum().clamp(min=1)
    torch.testing.assert_close(told.box_shares, at.shares / at.shares.sum())
    assert at.shares.max() == 1
    torch.testing.assert_close(told.shares, torch.full_like(told.shares, 1) / total)
    assert told.scores is not None and not told.scores.requires_grad


# --- what errors cost


def said(**more: Any) -> Matched:
    """Three places of one picture, two classes: the first place is at an object of class 1, to be said with 0.8."""
    chances = torch.tensor([[[0.3, 0.6], [0.2, 0.1], [0.5, 0.5]]])
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    given = {
        "logits": chances.logit(),
        "exclusive": False,
        "labels": torch.tensor([[1, BACKGROUND, IGNORED]]),
        "shares": torch.tensor([[1.0, 1.0, 0.0]]),
        "codes": torch.tensor([[1.0, 1.0, 1.0, 1.0]]),
        "true_codes": torch.tensor([[0.25, 1.5, 2.0, 3.0]]),
        "boxes": boxes,
        "true_boxes": boxes + torch.tensor([1.0, 0.0, 1.0, 0.0]),
        "box_shares": torch.tensor([0.5]),
        "costs": Costs("cross_entropy", "ciou", box_weight=2.5, distribution_weight=0.5),
        "scores": torch.tensor([0.8]),
    }
    return Matched(**{**given, **more})


def nats(chance: float, true: float) -> float:
    return -(true * math.log(chance) + (1 - true) * math.log(1 - chance))


def test_costs_of_soft_scores_by_hand() -> None:
    background = [0.3, 0.2, 0.1]  # the other class of the first place, and both of the second
    plain = nats(0.6, 0.8) + sum(nats(chance, 0) for chance in background)
    assert class_loss(said(), "cross_entropy").item() == pytest.approx(plain, rel=1e-5)
    focal = 0.2**2 * nats(0.6, 0.8) + sum(chance**2 * nats(chance, 0) for chance in background)
    assert class_loss(said(), "focal").item() == pytest.approx(focal, rel=1e-5)
    varifocal = 0.8 * nats(0.6, 0.8) + 0.75 * sum(chance**2 * nats(chance, 0) for chance in background)
    assert class_loss(said(), "varifocal").item() == pytest.approx(varifocal, rel=1e-5)


def test_hard_scores_cost_what_they_did() -> None:
    hard = said(scores=None)
    true = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    expected = sigmoid_focal_loss(hard.logits[0, :2], true, alpha=0.25, gamma=2, reduction="sum")
    assert class_loss(hard, "focal").item() == pytest.approx(expected.item(), rel=1e-5)
    varifocal = nats(0.6, 1) + 0.75 * sum(chance**2 * nats(chance, 0) for chance in (0.3, 0.2, 0.1))
    assert class_loss(hard, "varifocal").item() == pytest.approx(varifocal, rel=1e-5)


def test_varifocal_costs_of_a_softmax_by_hand() -> None:
    chances = torch.tensor([[[0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [0.1, 0.1, 0.8]]])
    given = said(logits=chances.log(), exclusive=True)
    expected = -math.log(0.2) + 0.75 * 0.1**2 * -math.log(0.9)
    assert class_loss(given, "varifocal").item() == pytest.approx(expected, rel=1e-5)


def test_distributions_by_hand() -> None:
    chances = torch.tensor([0.1, 0.2, 0.3, 0.4])
    given = said(distributions=chances.log().expand(1, 4, 4))
    # 0.25 lies between 0 and 1, 1.5 between 1 and 2; 2 is 2, and 3 is 3, the last
    costs = [
        -(0.75 * math.log(0.1) + 0.25 * math.log(0.2)),
        -(0.5 * math.log(0.2) + 0.5 * math.log(0.3)),
        -math.log(0.3),
        -math.log(0.4),
    ]
    assert distribution_loss(given).item() == pytest.approx(0.5 * sum(costs) / 4, rel=1e-5)


def test_a_distribution_is_cheapest_where_its_mean_is_the_true_code() -> None:
    logits = torch.zeros(1, 4, 8, requires_grad=True)
    true, stepper = torch.tensor([[0.3, 2.5, 4.0, 6.9]]), torch.optim.Adam([logits], 0.3)
    for _ in range(300):
        stepper.zero_grad()
        distribution_loss(said(distributions=logits, true_codes=true)).backward()
        stepper.step()
    torch.testing.assert_close(F.softmax(logits.detach(), 2) @ torch.arange(8.0), true, atol=0.03, rtol=0)


def test_the_sum_by_hand() -> None:
    given = said(distributions=torch.zeros(1, 4, 4))
    classes, boxes = class_loss(given, "cross_entropy").item(), box_loss(given, "ciou").item()
    distributions = 0.5 * math.log(4)
    expected = classes + 2.5 * boxes + 0.5 * distributions
    assert detection_loss(given, Detection()).item() == pytest.approx(expected, rel=1e-5)
    heavier = Detection(box_weight=2, class_weight=3, classes="varifocal", boxes="diou")
    expected = 3 * class_loss(given, "varifocal").item() + 2 * (
        2.5 * box_loss(given, "diou").item() + 0.5 * distributions
    )
    assert detection_loss(given, heavier).item() == pytest.approx(expected, rel=1e-5)


# --- answers


def test_every_answer_knows_where_it_was_said() -> None:
    net = network(96, detections=20, score_threshold=0.0).eval()
    with torch.inference_mode():
        raw = net.raw(pictures(3, 96))
        rows, places = net.found(raw)
        assert torch.equal(rows, net(pictures(3, 96)))
        boxes = raw.boxes().clamp(0, 96)
        for picture in range(3):
            torch.testing.assert_close(rows[picture, :, :4], boxes[picture, places[picture]])
            scores = raw.logits[picture, places[picture]].sigmoid()
            picked = scores.gather(1, rows[picture, :, 5:].long())[:, 0]
            torch.testing.assert_close(rows[picture, :, 4], picked)
        sparse = network(96, detections=20, score_threshold=0.9).eval()
        nothing = sparse.found(sparse.raw(pictures(3, 96)))
    assert not nothing.rows.any() and not nothing.places.any()
