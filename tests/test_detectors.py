"""Every detection network meets one contract, and with torchvision's settings it is torchvision's; so is its loss."""

from __future__ import annotations

import copy
import hashlib
import io
import socket
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from as_in_training import as_in_training
from pydantic import ValidationError
from safetensors.torch import load, save, save_file
from torch import Tensor, nn
from torchvision.models import detection, get_model
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder, Matcher, SSDMatcher
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.ops import (
    MultiScaleRoIAlign,
    batched_nms,
    box_iou,
    complete_box_iou_loss,
    distance_box_iou_loss,
    generalized_box_iou_loss,
)

from pipeline.bundle import normaliser
from pipeline.contracts import Output, Target
from pipeline.errors import UserError
from pipeline.losses._boxes import overlap_loss
from pipeline.losses.detection import box_loss, class_loss
from pipeline.models._detection.answers import Limits, answered, suppressed
from pipeline.models._detection.coding import Coder
from pipeline.models._detection.matching import (
    at_objects,
    best_objects,
    beyond,
    in_crowd,
    nearest,
    overlaps,
    truths,
    without_crowds,
)
from pipeline.models._detection.sampling import drawn as lots
from pipeline.networks import BACKGROUND, IGNORED, Costs, Deciding, Matched
from pipeline.plugin import config_class, names

__all__ = ["as_in_training"]

pytestmark = pytest.mark.slow

OTHERS = ("rf_detr",)
"""Of 30 million weights: tests/test_rf_detr.py is about it."""
NAMES = [name for name in names("models") if config_class("models", name).gives is Output.BOXES and name not in OTHERS]
SIDE, CLASSES = 64, 3
LIGHT: dict[str, dict[str, Any]] = {
    "faster_rcnn": {"width": 32, "representation": 16, "proposals": 20, "sampled": 16, "candidates": 100},
    "fcos": {"width": 32, "depth": 1},
    "retinanet": {"width": 32, "depth": 1},
    "ssd": {"width": 32},
    "ssdlite": {"width": 32},
    "yolo": {"width": 32, "depth": 1},
}
"""Options that make a network small."""
THEIRS = [name for name in NAMES if name in ("faster_rcnn", "fcos", "retinanet", "ssd", "ssdlite")]
"""Those that torchvision has too."""


def network(name: str, channels: int = 3, size: int = SIDE, seed: int = 0, **options: Any) -> Deciding:
    """A small one whose every weight has been moved a little, as some start at zero on purpose; it answers nearly
    anything, as it has learnt nothing."""
    torch.manual_seed(seed)
    options = {**LIGHT[name], "detections": 30, "score_threshold": 0.003, **options}
    net = config_class("models", name).model_validate(options).build(channels, CLASSES, size)
    with torch.no_grad():
        for weights in net.parameters():
            weights.add_(0.03 * torch.randn_like(weights))
    return net


def pictures(count: int, channels: int = 3, side: int = SIDE) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def targets(count: int, side: int = SIDE, most: int = 8) -> Tensor:
    """Objects of every size, more of them in later pictures, and padding."""
    random = torch.Generator().manual_seed(2)
    rows = torch.full((count, most, 6), -1.0)
    for picture in range(count):
        for row in range(min(picture + 3, most)):
            sides = (
                side * torch.tensor([0.12, 0.25, 0.5, 0.95])[row % 4] * (0.8 + 0.2 * torch.rand(2, generator=random))
            )
            corner = torch.rand(2, generator=random) * (side - sides)
            rows[picture, row] = torch.tensor([*corner, *(corner + sides), (picture + row) % CLASSES, 0])
    return rows


def answers(net: nn.Module, batch: Tensor) -> Tensor:
    with torch.inference_mode():
        return net.eval()(batch)


def loss(**options: Any) -> nn.Module:
    return config_class("losses", "detection")(**options).build([1] * CLASSES, CLASSES)


def cost(net: Deciding, batch: Tensor, rows: Tensor, **options: Any) -> Tensor:
    torch.manual_seed(3)
    return loss(**options)(net.raw(batch), rows)


# --- the contract


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_gives_boxes_by_falling_score_within_the_picture_while_training_and_after(name: str, channels: int) -> None:
    net = network(name, channels)
    for given in (net(pictures(4, channels)).detach(), answers(net, pictures(4, channels))):
        assert (given.shape, given.dtype) == ((4, 30, 6), torch.float32)
        scores, there = given[..., 4], given[..., 4] > 0
        assert there.any()
        assert (scores[:, 1:] <= scores[:, :-1]).all() and (scores <= 1).all()
        assert (given[~there] == 0).all()
        assert (given[..., :4] >= 0).all() and (given[..., :4] <= SIDE).all()
        assert (given[..., :2] <= given[..., 2:4]).all()
        assert set(given[..., 5].unique().tolist()) <= set(range(CLASSES))


@pytest.mark.parametrize("name", NAMES)
def test_no_score_reaches_the_threshold_so_nothing_is_answered(name: str) -> None:
    assert not answers(network(name, score_threshold=0.999), pictures(2)).any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_weight(name: str, channels: int) -> None:
    net = network(name, channels)
    cost(net, pictures(6, channels), targets(6)).backward()
    unreached = [key for key, weights in net.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert unreached == []
    assert all(weights.grad.isfinite().all() for weights in net.parameters() if weights.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_answered_alike_in_any_company(name: str) -> None:
    net, batch = network(name), pictures(6)
    together, order = answers(net, batch), torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(answers(net, batch[order]), together[order], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(answers(net, batch[2:3]), together[2:3], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "faster_rcnn"])
def test_order_of_the_batch_does_not_matter_to_the_loss(name: str) -> None:
    net, batch, rows = network(name).eval(), pictures(4), targets(4)
    order = torch.tensor([3, 0, 1, 2])
    torch.testing.assert_close(cost(net, batch[order], rows[order]), cost(net, batch, rows))


@pytest.mark.parametrize("size", [0.0, 1.0, 1e3, -1e4])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_pictures_are_answered_and_learnt_from_in_finite_numbers(name: str, size: float) -> None:
    net, batch = network(name).eval(), torch.full((2, 3, SIDE, SIDE), size)
    assert answers(net, batch).isfinite().all()
    total = cost(net, batch, targets(2))
    total.backward()
    assert total.isfinite()
    assert all(weights.grad is None or weights.grad.isfinite().all() for weights in net.parameters())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [0, 3])
def test_pictures_without_objects_teach_background(name: str, rows: int) -> None:
    net = network(name)
    total = cost(net, pictures(2), torch.full((2, rows, 6), -1.0))
    total.backward()
    assert total.isfinite() and total > 0
    assert any(weights.grad is not None and weights.grad.any() for weights in net.parameters())
    assert all(weights.grad is None or weights.grad.isfinite().all() for weights in net.parameters())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "box", [(3.0, 3.0, 3.001, 9.0), (0.0, 0.0, 64.0, 64.0), (63.0, 63.0, 64.0, 64.0), (5.0, 5.0, 5.0, 9.0)]
)
def test_extreme_objects_cost_a_finite_number(name: str, box: tuple[float, ...]) -> None:
    net = network(name)
    for boxes in ("own", "ciou"):
        total = cost(net, pictures(2), torch.tensor([[[*box, 1.0, 0.0]]]).expand(2, 1, 6), boxes=boxes)
        total.backward()
        assert total.isfinite()
        assert all(weights.grad is None or weights.grad.isfinite().all() for weights in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_validation_reads_the_same_loss_and_changes_nothing(name: str) -> None:
    net = network(name).eval()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with torch.inference_mode():
        raw = net.raw(pictures(3))
        torch.manual_seed(3)
        total = loss()(raw, targets(3))
        assert torch.equal(net.answer(raw), net(pictures(3)))
    assert total.item() == pytest.approx(cost(net, pictures(3), targets(3)).item(), rel=1e-6)
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_the_first_weights_and_nothing_is_fetched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a network asked the network for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    first, again, other = (network(name, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_gives_the_same_answers(name: str) -> None:
    net = network(name)
    net.raw(pictures(4))  # moves the statistics that belong to the state
    loaded = network(name, seed=1)
    loaded.load_state_dict(load(save(net.state_dict())))
    assert torch.equal(answers(loaded, pictures(3)), answers(net, pictures(3)))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_steps_give_the_same_weights_bit_for_bit(name: str) -> None:
    ends = []
    for _ in range(2):
        net = copy.deepcopy(network(name))  # as the probe does, before it tries a step
        stepper = torch.optim.AdamW(net.parameters(), 0.01)
        for _ in range(2):
            stepper.zero_grad()
            cost(net, pictures(3), targets(3)).backward()
            stepper.step()
        ends.append(net.state_dict())
    assert all(torch.equal(tensor, ends[1][key]) for key, tensor in ends[0].items())


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_and_channels_last_change_little(name: str) -> None:
    net = network(name)
    plain = cost(net, pictures(3), targets(3)).item()
    last = net.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        total = cost(last, pictures(3).contiguous(memory_format=torch.channels_last), targets(3))
        given = net(pictures(3).contiguous(memory_format=torch.channels_last))
    total.backward()
    assert total.dtype == given.dtype == torch.float32
    assert total.item() == pytest.approx(plain, rel=0.1)


@pytest.mark.parametrize("size", [32, 50, 100])
@pytest.mark.parametrize("name", NAMES)
def test_any_size_from_32_pixels_on(name: str, size: int) -> None:
    net = network(name, size=size)
    assert cost(net, pictures(2, side=size), targets(2, size)).isfinite()
    assert (answers(net, pictures(2, side=size))[..., :4] <= size).all()


@pytest.mark.parametrize("name", ["fcos", "ssd"])
def test_smaller_pictures_are_refused(name: str) -> None:
    expected = "needs pictures of 32 pixels or more, and augment.size is 28: set augment.size to 32 at least"
    with pytest.raises(UserError, match=expected):
        network(name, size=28)


def exported(net: nn.Module) -> bytes:
    """As `pipeline.bundle` does it."""
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(net.eval(), (seen(2),), dynamic_shapes=({0: batch},), strict=False)
    out = io.BytesIO()
    torch.export.save(program, out)
    return out.getvalue()


def seen(count: int) -> Tensor:
    return torch.randint(0, 256, (count, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(4)).to(torch.uint8)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "fcos" else pytest.mark.slow) for name in NAMES]
)
def test_exported_it_gives_the_same_answers_for_any_number_of_pictures(name: str) -> None:
    whole = nn.Sequential(normaliser([0.5] * 3, [0.25] * 3), network(name, score_threshold=0.0)).eval()
    program = torch.export.load(io.BytesIO(exported(whole))).module()
    for count in (2, 3, 7):
        with torch.inference_mode():
            torch.testing.assert_close(program(seen(count)), whole(seen(count)), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_exported_program_of_one_stage_needs_no_torchvision(tmp_path: Path) -> None:
    whole = nn.Sequential(normaliser([0.5] * 3, [0.25] * 3), network("retinanet"))
    (tmp_path / "network.pt2").write_bytes(exported(whole))
    code = (
        "import sys, torch; program = torch.export.load('network.pt2').module();"
        f"print(program(torch.zeros(2, {SIDE}, {SIDE}, 3, dtype=torch.uint8)).shape, 'torchvision' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "torch.Size([2, 30, 6]) False"


# --- it learns


STEPS = 45


def drawn(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Noise with rectangles in three colours, a class each, and where they are."""
    random = torch.Generator().manual_seed(0)
    batch, rows = 0.2 * torch.randn(count, 3, side, side, generator=random), torch.full((count, 2, 6), -1.0)
    for picture in range(count):
        for row in range(2):
            width, height = torch.randint(12, side // 2, (2,), generator=random).tolist()
            left = int(torch.randint(0, side // 2 - width + 1, (), generator=random)) + row * side // 2
            top = int(torch.randint(0, side - height, (), generator=random))
            kind = (picture + row) % CLASSES
            batch[picture, :, top : top + height, left : left + width] -= 1
            batch[picture, kind, top : top + height, left : left + width] += 3
            rows[picture, row] = torch.tensor([left, top, left + width, top + height, kind, 0])
    return batch, rows


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "faster_rcnn" else []) for name in NAMES]
)
def test_learns_a_few_pictures_by_heart(name: str) -> None:
    torch.manual_seed(0)
    net = config_class("models", name)().build(3, CLASSES, 96)
    batch, rows = drawn(4, 96)
    stepper = torch.optim.AdamW(net.parameters(), 0.003)
    for step in range(STEPS):
        for group in stepper.param_groups:
            group["lr"] = 0.003 * min(1, (step + 1) / 5) * (1 - step / STEPS)
        stepper.zero_grad()
        cost(net, batch, rows).backward()
        stepper.step()
    for given, true in zip(answers(net, batch), rows, strict=True):
        sure = given[given[:, 4] > 0.3]
        right = (box_iou(sure[:, :4], true[:, :4]) > 0.6) & (sure[:, 5:] == true[:, 4])
        assert right.any(dim=0).all()  # every object is found, with its class


# --- it is torchvision's


class AsTheirs(nn.Module):
    """Our maps as torchvision's detectors want them."""

    def __init__(self, maps: nn.Module, width: int) -> None:
        super().__init__()
        self.maps, self.out_channels = maps, width

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return OrderedDict((str(level), each) for level, each in enumerate(self.maps(batch)))


def reference(name: str, net: Any, side: int) -> nn.Module:
    """torchvision's detector with the same weights and settings."""
    plain = {"min_size": side, "max_size": side, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    limits = {
        "score_thresh": net.limits.score_threshold,
        "nms_thresh": net.limits.nms_iou,
        "detections_per_img": net.limits.detections,
    }
    if name in ("ssd", "ssdlite"):
        maps = len(net.maps.widths)
        scales = [0.06 * 15 ** (level / (maps - 1)) for level in range(maps)]
        boxes = DefaultBoxGenerator([[2, 3]] * maps, scales=[*scales, 1.0])
        more = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3, "topk_candidates": net.candidates}
        return SSD(AsTheirs(net.maps, 0), boxes, (side, side), CLASSES + 1, head=net.head, **more, **limits).eval()
    strides, backbone = net.pyramid.strides, AsTheirs(net.pyramid, 32)
    thirds = [2 ** (third / 3) for third in range(3)] if name == "retinanet" else [1.0]
    side_of = {"retinanet": 2, "fcos": 1, "faster_rcnn": 4}[name]
    sizes = tuple(tuple(side_of * stride * third for third in thirds) for stride in strides)
    anchors = AnchorGenerator(sizes, ((1.0,) if name == "fcos" else (0.5, 1.0, 2.0),) * len(sizes))
    if name != "faster_rcnn":
        kind = {"retinanet": detection.RetinaNet, "fcos": detection.FCOS}[name]
        more = {"anchor_generator": anchors, "topk_candidates": net.candidates}
        return kind(backbone, CLASSES, head=net.head, **more, **limits, **plain).eval()
    return detection.FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_head=net.proposing,
        **{f"rpn_pre_nms_top_n_{when}": net.candidates for when in ("train", "test")},
        **{f"rpn_post_nms_top_n_{when}": net.proposals for when in ("train", "test")},
        rpn_batch_size_per_image=2 * LIGHT[name]["sampled"],
        box_batch_size_per_image=LIGHT[name]["sampled"],
        box_roi_pool=MultiScaleRoIAlign([str(level) for level in range(len(strides) - 1)], 7, 2),
        box_head=net.head,
        box_predictor=net.predictor,
        **{f"box_{key}": value for key, value in limits.items()},
        **plain,
    ).eval()


@pytest.mark.parametrize("name", THEIRS)
def test_answers_are_those_of_torchvision(name: str) -> None:
    net, batch = network(name, size=128).eval(), pictures(3, side=128)
    theirs = reference(name, net, 128)
    background = int(name in ("ssd", "ssdlite", "faster_rcnn"))  # takes the first place among their classes
    with torch.no_grad():
        expected = theirs(list(batch))
    for given, each in zip(answers(net, batch), expected, strict=True):
        found = len(each["scores"])
        assert 0 < found == int((given[:, 4] > 0).sum())
        torch.testing.assert_close(given[:found, :4], each["boxes"], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(given[:found, 4], each["scores"], rtol=1e-5, atol=1e-6)
        assert torch.equal(given[:found, 5].long(), each["labels"] - background)


@pytest.mark.parametrize("name", THEIRS)
def test_the_loss_and_its_gradient_are_those_of_torchvision(name: str) -> None:
    net, batch, rows = network(name, size=128).eval(), pictures(3, side=128), targets(3, 128)
    theirs = reference(name, net, 128)
    for part in (theirs, *(getattr(theirs, key) for key in ("rpn", "roi_heads") if hasattr(theirs, key))):
        part.training = True  # and the layers below not, as those of ours
    background = int(name in ("ssd", "ssdlite", "faster_rcnn"))
    told = [
        {"boxes": each[:, :4], "labels": each[:, 4].long() + background} for each in (r[r[:, 4] >= 0] for r in rows)
    ]
    torch.manual_seed(3)
    expected = sum(theirs(list(batch), told).values())
    given = cost(net, batch, rows)
    assert given.item() == pytest.approx(expected.item(), rel=1e-5)
    weights = list(net.parameters())
    for ours, their in zip(
        torch.autograd.grad(given, weights, allow_unused=True),
        torch.autograd.grad(expected, weights, allow_unused=True),
        strict=True,
    ):
        assert (ours is None) == (their is None)
        if ours is not None:
            torch.testing.assert_close(ours, their, rtol=1e-3, atol=1e-5)


def test_suppression_is_that_of_torchvision() -> None:
    random = torch.Generator().manual_seed(0)
    corners = 100 * torch.rand(4, 300, 2, generator=random)
    boxes = torch.cat([corners, corners + 5 + 40 * torch.rand(4, 300, 2, generator=random)], dim=2)
    scores, classes = torch.rand(4, 300, generator=random), torch.randint(3, (4, 300), generator=random)
    kept, places = suppressed(boxes, scores, classes, 150, 0.4)
    for picture in range(4):
        expected = batched_nms(boxes[picture], scores[picture], classes[picture], 0.4)[:150]
        count = int((kept[picture] > 0).sum())
        assert places[picture, :count].tolist() == expected.tolist()


# --- answers and matches by hand


def test_answers_by_hand() -> None:
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [-5, 20, 5, 99], [1, 1, 1, 9], [30, 30, 40, 40]]
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.2]
    given = answered(
        torch.tensor([boxes], dtype=torch.float32), torch.tensor([scores]), torch.tensor([[0, 0, 1, 0, 0, 0]]),
        Limits(size=50, detections=5, nms_iou=0.5, score_threshold=0.2, smallest=0.01),
    )  # fmt: skip
    # the second overlaps the first, the third is of another class, the fourth is cut, the fifth has no area, the last
    # is not above the threshold
    expected = [[0, 0, 10, 10, 0.9, 0], [0, 0, 10, 9, 0.7, 1], [0, 20, 5, 50, 0.6, 0], [0] * 6, [0] * 6]
    torch.testing.assert_close(given, torch.tensor([expected], dtype=torch.float32))


def test_truth_leaves_padding_and_boxes_without_area_out_and_sets_crowds_apart() -> None:
    rows = [[0, 0, 5, 5, 1, 0], [5, 5, 5, 9, 1, 0], [0, 0, 9, 9, 2, 1], [-1] * 6]
    more = [[-1] * 6, [0, 0, 7, 7, 0, 0], [-1] * 6, [0, 0, 8, 8, 2, 0]]
    true = truths(torch.tensor([rows, [[-1] * 6] * 4, more], dtype=torch.float64))
    assert true.boxes.tolist() == [[0, 0, 5, 5], [0, 0, 7, 7], [0, 0, 8, 8]]
    assert true.classes.tolist() == [1, 0, 2]
    assert true.pictures.tolist() == [0, 2, 2] and true.rows.tolist() == [0, 1, 3]
    assert true.counts == [1, 0, 2] and true.firsts.tolist() == [0, 1, 1]
    assert true.crowds.tolist() == [[0, 0, 9, 9]] and true.crowd_counts == [1, 0, 0]


def test_a_crowd_covers_more_than_half() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [6, 0, 16, 10], [5, 0, 15, 10], [4, 0, 14, 10], [20, 20, 30, 30]])
    assert in_crowd(boxes, torch.tensor([[0.0, 0.0, 10.0, 10.0]])).tolist() == [True, False, False, True, False]


def test_background_in_a_crowd_is_ignored_and_objects_in_it_are_not() -> None:
    places = torch.tensor([[0.0, 0, 10, 10], [1, 1, 9, 9], [40, 40, 50, 50]])
    truth = truths(torch.tensor([[[0.0, 0, 20, 20, 1, 1], [0, 0, 10, 10, 2, 0]], [[-1.0] * 6] * 2]))
    matches = torch.tensor([[0, BACKGROUND, BACKGROUND], [BACKGROUND] * 3])
    objects = at_objects(without_crowds(matches, places, truth), truth)
    assert objects.labels.tolist() == [[2, IGNORED, BACKGROUND], [BACKGROUND] * 3]
    assert objects.boxes.tolist() == [[0, 0, 10, 10]]
    assert objects.places.tolist() == [0] and objects.counts == [1, 0]


def test_matches_of_a_batch_are_those_of_torchvision_picture_by_picture() -> None:
    rows = targets(5, most=8)
    rows[1] = -1  # a picture without objects between others
    corners = SIDE * torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    anchors = torch.cat([corners, corners + 4 + 30 * torch.rand(200, 2)], dim=1)
    truth = truths(rows)
    overlap = overlaps(truth.boxes, anchors[None])
    most, which = best_objects(overlap, truth)
    plain = beyond(most, which, 0.4, 0.2)
    lenient = torch.where(nearest(overlap, truth), which, plain)
    for picture in range(5):
        real = rows[picture][rows[picture, :, 4] >= 0]
        if not len(real):
            assert (plain[picture] == BACKGROUND).all() and (lenient[picture] == BACKGROUND).all()
            continue
        iou = box_iou(real[:, :4], anchors)
        for found, allow in ((plain, False), (lenient, True)):
            theirs = Matcher(0.4, 0.2, allow_low_quality_matches=allow)(iou)
            expected = torch.where(theirs >= 0, theirs + truth.firsts[picture], theirs)
            assert torch.equal(found[picture], expected)
    assert {BACKGROUND, IGNORED} < set(lenient.flatten().tolist()) != set(plain.flatten().tolist())


def test_an_object_that_no_anchor_overlaps_is_at_none() -> None:
    rows = torch.full((2, 2, 6), -1.0)
    rows[0, 0] = torch.tensor([3.0, 3, 4.5, 4.5, 1, 0])  # between anchors of 2 to 3 pixels, 8 apart
    rows[0, 1] = torch.tensor([15.0, 15, 17, 17, 0, 0])
    net = config_class("models", "retinanet")(anchor=0.25).build(3, 2, 64)
    found = net.match(truths(rows))
    assert set(found.flatten().tolist()) == {BACKGROUND, 1}
    assert (found == 1).sum() < 30 and (found[1] == BACKGROUND).all()


@pytest.mark.parametrize("name", ["ssd", "ssdlite"])
def test_boxes_of_ssd_grow_from_map_to_map(name: str) -> None:
    with pytest.raises(ValidationError, match=r"smallest is 0.5 and largest 0.2; the second has to be larger"):
        config_class("models", name)(smallest=0.5, largest=0.2)


def test_boxes_of_ssd_are_matched_as_in_torchvision_when_objects_share_the_best_one() -> None:
    net = network("ssd")
    rows = targets(3, most=8)
    rows[:, 7] = rows[:, 0]  # the same box again, of another class: the last one has it
    rows[:, 7, 4] = (rows[:, 0, 4] + 1) % CLASSES
    truth = truths(rows)
    found = net.match(truth)  # type: ignore[operator]
    for picture in range(3):
        real = rows[picture][rows[picture, :, 4] >= 0]
        theirs = SSDMatcher(0.5)(box_iou(real[:, :4], net.boxes))  # type: ignore[arg-type]
        assert torch.equal(found[picture], torch.where(theirs >= 0, theirs + truth.firsts[picture], theirs))


@pytest.mark.parametrize(("sampled", "share"), [(16, 0.5), (200, 0.25), (7, 0.5)])
def test_lots_are_those_of_torchvision(sampled: int, share: float) -> None:
    kinds = torch.randint(-1, 2, (4, 60), generator=torch.Generator().manual_seed(0))
    kinds[1] = 0
    torch.manual_seed(5)
    expected = BalancedPositiveNegativeSampler(sampled, share)(list(kinds))
    torch.manual_seed(5)
    ranks = lots(torch.stack([(kinds > 0).sum(dim=1), (kinds == 0).sum(dim=1)]), sampled, share)
    for kind, masks, rank in zip((1, 0), expected, ranks, strict=True):
        places = (kinds == kind).flatten().nonzero()[:, 0][rank]
        assert torch.equal(places, torch.cat(masks).nonzero()[:, 0])


@pytest.mark.parametrize("weights", [(1.0, 1.0), (10.0, 5.0)])
def test_codes_are_those_of_torchvision_to_the_bit(weights: tuple[float, float]) -> None:
    random = torch.Generator().manual_seed(0)
    corners, sides = 50 * torch.rand(40, 2, 2, generator=random), 1 + 40 * torch.rand(40, 2, 2, generator=random)
    boxes, anchors = torch.cat([corners, corners + sides], dim=2).unbind(dim=1)
    mine, theirs = Coder(*weights), BoxCoder((weights[0], weights[0], weights[1], weights[1]))
    codes = mine.encoded(boxes, anchors)
    assert torch.equal(codes, theirs.encode_single(boxes, anchors))
    for said in (codes, 30 * torch.randn(40, 4, generator=random)):  # some of these are cut
        assert torch.equal(mine.decoded(said, anchors), theirs.decode_single(said, anchors))
    three = torch.randn(40, 3, 4, generator=random)
    expected = theirs.decode_single(three.flatten(1), anchors).view(40, 3, 4)
    assert torch.equal(mine.decoded(three, anchors[:, None]), expected)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_in_a_crowd_costs_nothing(name: str) -> None:
    net = network(name)
    crowd = torch.tensor([[[0.0, 0.0, SIDE, SIDE, 1.0, 1.0]]])
    (first, *_) = net.raw(pictures(1)).matched(crowd)
    ignored = first.labels == IGNORED
    assert ignored.float().mean() > 0.5
    assert (first.shares[ignored] == 0).all()
    # those that lie mostly outside of the picture are not in the crowd
    assert not (first.labels >= 0).any()


# --- the loss by hand


def said(**more: Any) -> Matched:
    """Two places of one picture with one class: an object said with p = 1/2, and background with p = 1/5."""
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    given = {
        "logits": torch.tensor([[[0.0], [-4.0]]]).where(torch.tensor([[[True], [False]]]), torch.tensor(0.25).log()),
        "exclusive": False,
        "labels": torch.tensor([[0, BACKGROUND]]),
        "shares": torch.tensor([[1.0, 1.0]]),
        "codes": torch.tensor([[0.5, 0.0, 3.0, 0.0]]),
        "true_codes": torch.zeros(1, 4),
        "boxes": boxes,
        "true_boxes": boxes + torch.tensor([1.0, 0.0, 1.0, 0.0]),
        "box_shares": torch.tensor([0.5]),
        "costs": Costs("focal", "l1"),
    }
    return Matched(**{**given, **more})


def test_class_costs_by_hand() -> None:
    ln = torch.log
    half, fifth = ln(torch.tensor(2.0)), ln(torch.tensor(5 / 4))
    assert class_loss(said(), "cross_entropy").item() == pytest.approx((half + fifth).item())
    focal = 0.25 * 0.25 * half + 0.75 * 0.04 * fifth
    assert class_loss(said(), "focal").item() == pytest.approx(focal.item())
    ignored = said(labels=torch.tensor([[0, IGNORED]]), shares=torch.tensor([[1.0, 0.0]]))
    assert class_loss(ignored, "cross_entropy").item() == pytest.approx(half.item())


def test_softmax_costs_and_mining_by_hand() -> None:
    # probabilities of background and object; the first place is at an object, the others are not
    chances = torch.tensor([[[0.5, 0.5], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]])
    labels, shares = torch.tensor([[0, BACKGROUND, BACKGROUND, BACKGROUND]]), torch.full((1, 4), 0.5)
    given = said(logits=chances.log(), exclusive=True, labels=labels, shares=shares)
    every = -0.5 * torch.tensor([0.5, 0.9, 0.2, 0.6]).log()
    assert class_loss(given, "cross_entropy").item() == pytest.approx(every.sum().item())
    worst = said(
        logits=chances.log(), exclusive=True, labels=labels, shares=shares, costs=Costs("focal", "l1", mined=2)
    )
    assert class_loss(worst, "cross_entropy").item() == pytest.approx((every[0] + every[2] + every[3]).item())
    focal = 0.5 * -(
        0.25 * 0.25 * chances[0, 0, 1].log() + (0.75 * (1 - chances[0, 1:, 0]) ** 2 * chances[0, 1:, 0].log()).sum()
    )
    assert class_loss(worst, "focal").item() == pytest.approx(focal.item(), rel=1e-5)


def test_box_costs_by_hand() -> None:
    assert box_loss(said(), "l1").item() == pytest.approx(0.5 * 3.5)
    assert box_loss(said(), "smooth_l1").item() == pytest.approx(0.5 * (0.125 + 2.5))
    sharp = said(costs=Costs("focal", "smooth_l1", beta=0.25))
    assert box_loss(sharp, "smooth_l1").item() == pytest.approx(0.5 * (0.375 + 2.875))
    # two squares of side 2, one pixel apart: 2 in common, 6 in all, and both fill the box around them
    assert box_loss(said(), "giou").item() == pytest.approx(0.5 * (1 - 2 / 6), rel=1e-5)


def test_overlap_losses_by_hand() -> None:
    given, true = torch.tensor([[0.0, 0.0, 2.0, 1.0]]), torch.tensor([[3.0, 0.0, 4.0, 1.0]])
    # nothing in common, 3 in all, 4 around; middles 2.5 apart, diagonal squared 17; proportions 2 and 1
    assert overlap_loss(given, true, "giou").item() == pytest.approx(1 + 1 / 4, rel=1e-5)
    assert overlap_loss(given, true, "diou").item() == pytest.approx(1 + 6.25 / 17, rel=1e-5)
    angles = 4 / torch.pi**2 * (torch.tensor(1.0).atan() - torch.tensor(2.0).atan()) ** 2
    expected = 1 + 6.25 / 17 + angles * angles / (1 + angles)
    assert overlap_loss(given, true, "ciou").item() == pytest.approx(expected.item(), rel=1e-5)
    for kind in ("giou", "diou", "ciou"):
        assert overlap_loss(true, true, kind).item() == pytest.approx(0, abs=1e-6)


def test_overlap_losses_are_those_of_torchvision() -> None:
    random = torch.Generator().manual_seed(0)
    corners, sides = 20 * torch.rand(50, 2, 2, generator=random), 1 + 20 * torch.rand(50, 2, 2, generator=random)
    first, second = torch.cat([corners, corners + sides], dim=2).unbind(dim=1)
    theirs = {"giou": generalized_box_iou_loss, "diou": distance_box_iou_loss, "ciou": complete_box_iou_loss}
    for kind, reference_loss in theirs.items():
        torch.testing.assert_close(
            overlap_loss(first, second, kind), reference_loss(first, second), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_a_box_without_area_has_a_finite_slope(kind: Any) -> None:
    given = torch.tensor([[3.0, 3.0, 3.0, 3.0]], requires_grad=True)
    overlap_loss(given, torch.tensor([[0.0, 0.0, 9.0, 9.0]]), kind).sum().backward()
    assert given.grad is not None and given.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("boxes", ["smooth_l1", "giou", "diou", "ciou"])
def test_any_cost_goes_with_any_network(name: str, boxes: str) -> None:
    net = network(name)
    for classes in ("focal", "cross_entropy", "varifocal"):
        assert cost(net, pictures(2), targets(2), boxes=boxes, classes=classes).isfinite()


def test_weights_of_the_two_costs() -> None:
    net, rows = network("retinanet").eval(), targets(2)
    both = cost(net, pictures(2), rows)
    boxes = cost(net, pictures(2), rows, class_weight=0)
    classes = cost(net, pictures(2), rows, box_weight=0)
    assert (boxes + classes).item() == pytest.approx(both.item(), rel=1e-6)
    assert cost(net, pictures(2), rows, box_weight=3).item() == pytest.approx((3 * boxes + classes).item(), rel=1e-6)


def test_the_loss_takes_objects() -> None:
    assert (Output.BOXES, Target.OBJECTS) in config_class("losses", "detection").takes


# --- backbones

SMALL = "shufflenet_v2_x0_5"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "backbone",
    [
        "resnet18",
        "mobilenet_v3_small",
        "timm/test_resnet",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet34", "resnet50", "mobilenet_v3_large")),
    ],
)
def test_backbones_are_learnt_to_the_last_weight(backbone: str, channels: int) -> None:
    net = network("fcos", channels, backbone=backbone)
    cost(net, pictures(2, channels), targets(2)).backward()
    assert all(weights.grad is not None and weights.grad.any() for weights in net.parameters())


def test_an_unknown_backbone_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValidationError, match="no torchvision architecture named 'resnet81'. Did you mean 'resnet18'?"):
        network("ssd", backbone="resnet81")
    with pytest.raises(ValidationError, match="no timm architecture named 'resnet81'"):
        network("ssd", backbone="timm/resnet81")


def test_a_backbone_without_fine_maps_is_refused() -> None:
    expected = (
        "params.yaml: model.backbone: regnet_y_400mf has no map of stride 8; a detector needs maps of the strides 8,"
    )
    with pytest.raises(UserError, match=expected):
        network("retinanet", backbone="regnet_y_400mf")


@pytest.mark.parametrize(
    ("backbone", "prefix"),
    [
        (SMALL, ""),
        (SMALL, "1."),
        ("mobilenet_v3_small", "features."),
        ("timm/test_resnet", ""),
        ("tiny", "a.b."),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_file(backbone: str, prefix: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if backbone == SMALL:  # a whole classifier, whose last layer is of no use
        held = {prefix + key: tensor for key, tensor in get_model(backbone, num_classes=7).state_dict().items()}
    else:
        body = network("fcos", 1 if backbone == "tiny" else 3, seed=5, backbone=backbone).pyramid.body
        held = {prefix + key: tensor for key, tensor in getattr(body, "model", body).state_dict().items()}
    save_file(held, path) if suffix == ".safetensors" else torch.save(held, path)
    torch.manual_seed(0)
    loaded = config_class("models", "fcos")(backbone=backbone, weights=str(path), width=32).build(1, CLASSES, SIDE)
    body = loaded.pyramid.body if backbone == "tiny" else loaded.pyramid.body.body
    state = getattr(body, "model", body).state_dict()
    assert len(state) > 10
    assert all(torch.equal(tensor, held[prefix + key]) for key, tensor in state.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda held: held.pop("conv1.0.weight"), "1 missing (conv1.0.weight)"),
        (lambda held: held.update({"layer9.weight": torch.zeros(1)}), "1 not of this backbone (layer9.weight)"),
        (
            lambda held: held.update({"conv1.1.bias": torch.zeros(3)}),
            "1 of another shape (conv1.1.bias is [3], and [24] is needed)",
        ),
        (
            lambda held: [held.pop(key) for key in list(held) if key.startswith("stage2.0.branch1")],
            "10 missing (stage2.0.branch1.0.weight, stage2.0.branch1.1.weight, stage2.0.branch1.1.bias, "
            "stage2.0.branch1.1.running_mean, stage2.0.branch1.1.running_var, and 5 more)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: Any, words: str, tmp_path: Path) -> None:
    held = get_model(SMALL).state_dict()
    change(held)
    path = tmp_path / "weights.pth"
    torch.save(held, path)
    with pytest.raises(UserError) as caught:
        network("fcos", backbone=SMALL, weights=str(path))
    expected = f"params.yaml: model.weights: {path} does not fit the backbone: {words}. Take the file of this very "
    assert str(caught.value) == expected + "architecture, or another model.backbone."


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("a pickle was run",)


def test_a_file_that_holds_no_weights_is_refused_and_never_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save(Trap(), tmp_path / "trap.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    (tmp_path / "cut.safetensors").write_bytes(save({"a": torch.zeros(4)})[:-3])
    cases = {
        "trap.pth": "holds no plain weights: Weights only load failed",
        "list.pth": "holds no state_dict: expected tensors by name, found list",
        "cut.safetensors": "holds no plain weights: ",
        "none.pth": "cannot be read: No such file or directory. Give the path of a file.",
    }
    for name, words in cases.items():
        with pytest.raises(UserError) as caught:
            network("fcos", backbone=SMALL, weights=str(tmp_path / name))
        assert str(caught.value).startswith(f"params.yaml: model.weights: {tmp_path / name} {words}")
    assert capsys.readouterr().out == ""


def test_another_file_than_the_digest_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(get_model(SMALL).state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert network("fcos", backbone=SMALL, weights=str(path), weights_sha256=digest)
    with pytest.raises(
        UserError, match=f"model.weights_sha256: .* hashes to {digest}, not to {'0' * 64}: it is another"
    ):
        network("fcos", backbone=SMALL, weights=str(path), weights_sha256="0" * 64)


@pytest.mark.parametrize("name", ["fcos", "yolo", "rf_detr"])
def test_a_digest_of_no_file_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="weights_sha256 is given, and weights names no file; give both, or leave it"):
        config_class("models", name)(weights_sha256="0" * 64)
