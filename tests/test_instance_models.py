"""Every network that tells objects with masks meets one contract; Mask R-CNN is torchvision's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from as_in_training import as_in_training
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_loss, project_masks_on_boxes
from torchvision.ops import MultiScaleRoIAlign, masks_to_boxes

from pipeline.bundle import Bundle, BundleInfo, normaliser, write
from pipeline.contracts import Output, Target
from pipeline.losses._small_masks import mask_costs
from pipeline.masks import CROWD, VOID
from pipeline.models._detection.objects_of_map import masks_in_boxes, objects_of_map
from pipeline.models._yolo.prototypes import within_boxes
from pipeline.networks import IGNORED, Deciding
from pipeline.plugin import config_class, names

__all__ = ["as_in_training"]

NAMES = [name for name in names("models") if config_class("models", name).gives is Output.INSTANCES]
SIDE, CLASSES = 64, 3
LIGHT: dict[str, dict[str, Any]] = {
    "mask_rcnn": {
        "width": 32,
        "representation": 16,
        "proposals": 20,
        "sampled": 16,
        "candidates": 99,
        "mask_width": 16,
    },
    "yolo_masks": {"prototypes": 8, "size": "n"},
}
"""Options that make a network small."""


def network(name: str, channels: int = 3, size: int = SIDE, seed: int = 0, **options: Any) -> Deciding:
    """A small one whose every weight has been moved a little; it answers nearly anything, as it has learnt nothing."""
    torch.manual_seed(seed)
    options = {**LIGHT[name], "detections": 12, "score_threshold": 0.003, "mask": 14, **options}
    net = config_class("models", name).model_validate(options).build(channels, CLASSES, size)
    with torch.no_grad():
        for weights in net.parameters():
            weights.add_(0.03 * torch.randn_like(weights))
    return net


def pictures(count: int, channels: int = 3, side: int = SIDE) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def maps(count: int, side: int = SIDE) -> Tensor:
    """Discs of every size, a later one over those before it."""
    random, cells = torch.Generator().manual_seed(2), torch.arange(side) + 0.5
    drawn = torch.full((count, side, side, 3), VOID, dtype=torch.uint8)
    for picture in range(count):
        for number in range(picture + 2):
            radius = side * [0.45, 0.25, 0.12][number % 3] * (0.8 + 0.2 * torch.rand((), generator=random))
            x, y = radius + torch.rand(2, generator=random) * (side - 2 * radius)
            inside = (cells[None] - x) ** 2 + (cells[:, None] - y) ** 2 <= radius**2
            drawn[picture][inside] = torch.tensor([(picture + number) % CLASSES, number, 0], dtype=torch.uint8)
    return drawn


def nothing(count: int) -> Tensor:
    return torch.full((count, SIDE, SIDE, 3), VOID, dtype=torch.uint8)


def answers(net: nn.Module, batch: Tensor) -> Tensor:
    with torch.inference_mode():
        return net.eval()(batch)


def cost(net: Deciding, batch: Tensor, targets: Tensor, **options: Any) -> Tensor:
    torch.manual_seed(3)
    return config_class("losses", "detection")(**options).build([1] * CLASSES, CLASSES)(net.raw(batch), targets)


# --- the contract


@pytest.mark.parametrize(("channels", "cells"), [(1, 14), (3, 28)])
@pytest.mark.parametrize("name", NAMES)
def test_gives_boxes_with_masks_by_falling_score(name: str, channels: int, cells: int) -> None:
    net = network(name, channels, mask=cells)
    for given in (net(pictures(4, channels)).detach(), answers(net, pictures(4, channels))):
        assert (given.shape, given.dtype) == ((4, 12, 6 + cells**2), torch.float32)
        scores, there = given[..., 4], given[..., 4] > 0
        assert there.any()
        assert (scores[:, 1:] <= scores[:, :-1]).all() and (scores <= 1).all()
        assert (given[~there] == 0).all()
        assert (given[..., :4] >= 0).all() and (given[..., :4] <= SIDE).all()
        assert (given[..., :2] <= given[..., 2:4]).all()
        assert set(given[..., 5].unique().tolist()) <= set(range(CLASSES))
        masks = given[there][:, 6:]
        assert (masks > 0).all() and (masks < 1).all() and masks.std(dim=1).min() > 0


@pytest.mark.parametrize("name", NAMES)
def test_no_score_reaches_the_threshold_so_nothing_is_answered(name: str) -> None:
    assert not answers(network(name, score_threshold=0.999), pictures(2)).any()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_weight(name: str, channels: int) -> None:
    net = network(name, channels)
    cost(net, pictures(6, channels), maps(6)).backward()
    unreached = [key for key, weights in net.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert unreached == []
    assert all(weights.grad.isfinite().all() for weights in net.parameters() if weights.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_answered_alike_in_any_company(name: str) -> None:
    net, batch = network(name), pictures(5)
    together, order = answers(net, batch), torch.tensor([3, 0, 1, 4, 2])
    torch.testing.assert_close(answers(net, batch[order]), together[order], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(answers(net, batch[2:3]), together[2:3], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", [0.0, 1e3, -1e4])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_pictures_are_answered_and_learnt_from_in_finite_numbers(name: str, size: float) -> None:
    net, batch = network(name).eval(), torch.full((2, 3, SIDE, SIDE), size)
    assert answers(net, batch).isfinite().all()
    total = cost(net, batch, maps(2))
    total.backward()
    assert total.isfinite()
    assert all(weights.grad is None or weights.grad.isfinite().all() for weights in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_pictures_without_objects_teach_background_and_no_mask(name: str) -> None:
    net = network(name)
    for masks in ("cross_entropy", "both"):
        total = cost(net, pictures(2), nothing(2), masks=masks)
        assert total.isfinite() and total > 0
        assert total.item() == pytest.approx(cost(net, pictures(2), nothing(2), mask_weight=0).item())
    total.backward()
    assert any(weights.grad is not None and weights.grad.any() for weights in net.parameters())
    assert all(weights.grad is None or weights.grad.isfinite().all() for weights in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_in_a_crowd_costs_nothing(name: str) -> None:
    crowd = torch.tensor([CROWD, 0, 0], dtype=torch.uint8).expand(1, SIDE, SIDE, 3)
    for matched in network(name).raw(pictures(1)).matched(crowd):
        ignored = matched.labels == IGNORED
        assert (matched.shares[ignored] == 0).all()
        assert not (matched.labels >= 0).any()
        if matched.masks is not None:
            assert len(matched.masks.logits) == len(matched.masks.true) == len(matched.masks.shares) == 0
        if matched.labels.numel() > 100:
            assert ignored.float().mean() > 0.5


@pytest.mark.parametrize("name", NAMES)
def test_validation_reads_the_same_loss_and_changes_nothing(name: str) -> None:
    net = network(name).eval()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with torch.inference_mode():
        raw = net.raw(pictures(3))
        total = cost(net, pictures(3), maps(3))
        assert torch.equal(net.answer(raw), net(pictures(3)))
    assert total.item() == pytest.approx(cost(net, pictures(3), maps(3)).item(), rel=1e-6)
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_gives_the_same_answers(name: str) -> None:
    net = network(name)
    net.raw(pictures(4))  # moves the statistics that belong to the state
    loaded = network(name, seed=1)
    loaded.load_state_dict(load(save(net.state_dict())))
    assert torch.equal(answers(loaded, pictures(3)), answers(net, pictures(3)))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_step_gives_the_same_weights_bit_for_bit(name: str) -> None:
    ends = []
    for _ in range(2):
        net = network(name)
        stepper = torch.optim.AdamW(net.parameters(), 0.01)
        cost(net, pictures(3), maps(3)).backward()
        stepper.step()
        ends.append(net.state_dict())
    assert all(torch.equal(tensor, ends[1][key]) for key, tensor in ends[0].items())


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_and_channels_last_change_little(name: str) -> None:
    net, batch = network(name), pictures(3).contiguous(memory_format=torch.channels_last)
    plain = cost(net, pictures(3), maps(3)).item()
    last = net.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        total, given = cost(last, batch, maps(3)), net(batch)
    total.backward()
    assert total.dtype == given.dtype == torch.float32
    assert total.item() == pytest.approx(plain, rel=0.15)


@pytest.mark.parametrize("size", [32, 50])
@pytest.mark.parametrize("name", NAMES)
def test_any_size_from_32_pixels_on(name: str, size: int) -> None:
    net = network(name, size=size)
    assert cost(net, pictures(2, side=size), maps(2, size)).isfinite()
    assert (answers(net, pictures(2, side=size))[..., :4] <= size).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_gives_the_same_answers_for_any_number_of_pictures(name: str, tmp_path: Path) -> None:
    about = {"task": {}, "model": {}, "classes": ["a", "b", "c"], "dataset": "", "parameters": 0, "channels": 3}
    info = BundleInfo(**about, packed=SIDE, size=SIDE, mean=[0.5] * 3, deviation=[0.25] * 3)
    seen = np.random.default_rng(4).integers(0, 256, (7, SIDE, SIDE, 3), np.uint8)
    for threshold in (0.003, 0.999):  # at the second there is nothing to tell a mask of
        net = network(name, score_threshold=threshold).eval()
        write(tmp_path, info, net)
        bundle = Bundle(tmp_path, info)
        whole = nn.Sequential(normaliser(info.mean, info.deviation), net).eval()
        for count in (1, 2, 7):
            (given,) = bundle.outputs(seen[:count])
            expected = answers(whole, torch.from_numpy(seen[:count])).numpy()
            np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
        assert given.any() == (threshold < 0.5)
    code = (  # torchvision's operations are known here, and not in a process that only answers
        "import sys; import numpy as np; from pathlib import Path; from pipeline.bundle import Bundle;"
        f"(given,) = Bundle.open(Path(sys.argv[1])).outputs(np.zeros((2, {SIDE}, {SIDE}, 3), np.uint8));"
        "print(given.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(2, 12, 202)"


# --- it learns

STEPS = 60
LEARNING: dict[str, dict[str, Any]] = {
    "mask_rcnn": {"width": 32, "proposals": 40, "candidates": 150, "sampled": 32, "mask_width": 32},
    "yolo_masks": {},
}
"""Options with which it is learnt in seconds."""


def drawn(count: int, side: int) -> tuple[Tensor, Tensor]:
    """Noise with a disc and a rhombus, a class each and both in one colour, and what is true of every pixel."""
    random, cells = torch.Generator().manual_seed(0), torch.arange(side) + 0.5
    batch = 0.2 * torch.randn(count, 3, side, side, generator=random)
    true = torch.full((count, side, side, 3), VOID, dtype=torch.uint8)
    for picture in range(count):
        for number in range(2):
            radius = float(8 + 8 * torch.rand((), generator=random))
            x = side / 4 + number * side / 2
            y = float(radius + torch.rand((), generator=random) * (side - 2 * radius))
            across, down = (cells[None] - x).abs(), (cells[:, None] - y).abs()
            kind = (picture + number) % 2
            inside = across + down <= radius if kind else across**2 + down**2 <= radius**2
            batch[picture, :, inside] += 2
            true[picture][inside] = torch.tensor([kind, number, 0], dtype=torch.uint8)
    return batch, true


def pasted(row: Tensor, side: int) -> Tensor:
    """The pixels of a picture that an answered object is on: bool [side, side]."""
    cells, (x1, y1, x2, y2) = int((len(row) - 6) ** 0.5), row[:4].tolist()
    centres = torch.arange(side) + 0.5
    across, down = 2 * (centres - x1) / (x2 - x1) - 1, 2 * (centres - y1) / (y2 - y1) - 1
    grid = torch.stack(torch.broadcast_tensors(across[None], down[:, None]), dim=2)
    mask = F.grid_sample(row[6:].view(1, 1, cells, cells), grid[None], padding_mode="border", align_corners=False)
    within = (grid.abs() <= 1).all(dim=2)
    return within & (mask[0, 0] > 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_learns_a_few_pictures_by_heart(name: str) -> None:
    torch.manual_seed(0)
    net = config_class("models", name).model_validate(LEARNING[name]).build(3, 2, 96)
    batch, true = drawn(4, 96)
    stepper = torch.optim.AdamW(net.parameters(), 0.003)
    for step in range(STEPS):
        for group in stepper.param_groups:
            group["lr"] = 0.003 * min(1, (step + 1) / 5) * (1 - step / STEPS)
        stepper.zero_grad()
        cost(net, batch, true).backward()
        stepper.step()
    for given, of_pixels in zip(answers(net, batch), true, strict=True):
        sure = given[given[:, 4] > 0.3]
        for number in range(2):
            inside = (of_pixels[..., 0] < CROWD) & (of_pixels[..., 1] == number)
            kind = of_pixels[inside][0, 0]
            overlaps = [
                (pasted(row, 96) & inside).sum() / (pasted(row, 96) | inside).sum() for row in sure if row[5] == kind
            ]
            assert max(overlaps, default=0) > 0.7


# --- Mask R-CNN is torchvision's


class AsTheirs(nn.Module):
    """Our maps as torchvision's detectors want them."""

    def __init__(self, maps_of: nn.Module, width: int) -> None:
        super().__init__()
        self.maps, self.out_channels = maps_of, width

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return {str(level): each for level, each in enumerate(self.maps(batch))}


def reference(net: Any, side: int) -> Any:
    """torchvision's Mask R-CNN with the same weights and settings."""
    found, told = net.detector, net.masks
    last = MaskRCNNPredictor(16, 16, CLASSES + 1)  # tells a mask of the background too, which is never asked for
    last.load_state_dict(
        {
            key: torch.cat([torch.zeros_like(tensor[:1]), tensor]) if "logits" in key else tensor
            for key, tensor in told.predictor.state_dict().items()
        }
    )
    strides = found.pyramid.strides
    levels = [str(level) for level in range(len(strides) - 1)]
    return detection.MaskRCNN(
        AsTheirs(found.pyramid, 32),
        min_size=side,
        max_size=side,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator(
            tuple((4.0 * stride,) for stride in strides), ((0.5, 1.0, 2.0),) * len(strides)
        ),
        rpn_head=found.proposing,
        **{f"rpn_pre_nms_top_n_{when}": found.candidates for when in ("train", "test")},
        **{f"rpn_post_nms_top_n_{when}": found.proposals for when in ("train", "test")},
        rpn_batch_size_per_image=2 * LIGHT["mask_rcnn"]["sampled"],
        box_batch_size_per_image=LIGHT["mask_rcnn"]["sampled"],
        box_roi_pool=MultiScaleRoIAlign(levels, 7, 2),
        box_head=found.head,
        box_predictor=found.predictor,
        box_score_thresh=found.limits.score_threshold,
        box_nms_thresh=found.limits.nms_iou,
        box_detections_per_img=found.limits.detections,
        mask_roi_pool=MultiScaleRoIAlign(levels, told.bins, 2),
        mask_head=told.head,
        mask_predictor=last,
    ).eval()


@pytest.mark.parametrize("cells", [14, 28])
def test_boxes_and_masks_are_those_of_torchvision(cells: int) -> None:
    net, batch = network("mask_rcnn", size=128, mask=cells).eval(), pictures(3, side=128)
    theirs = reference(net, 128)
    with torch.no_grad():
        images, _ = theirs.transform(list(batch))
        features = theirs.backbone(images.tensors)
        proposals, _ = theirs.rpn(images, features)
        expected, _ = theirs.roi_heads(features, proposals, images.image_sizes)  # before they put masks in their place
    for given, each in zip(answers(net, batch), expected, strict=True):
        found = len(each["scores"])
        assert 0 < found == int((given[:, 4] > 0).sum())
        torch.testing.assert_close(given[:found, :4], each["boxes"], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(given[:found, 4], each["scores"], rtol=1e-5, atol=1e-6)
        assert torch.equal(given[:found, 5].long(), each["labels"] - 1)
        torch.testing.assert_close(given[:found, 6:], each["masks"].flatten(1), rtol=1e-4, atol=1e-5)


def test_all_but_the_truth_of_masks_costs_what_it_costs_in_torchvision() -> None:
    net, batch, true = network("mask_rcnn", size=128).eval(), pictures(3, side=128), maps(3, 128)
    theirs = reference(net, 128)
    for part in (theirs, theirs.rpn, theirs.roi_heads):
        part.training = True
    told = []
    for of_pixels in true:
        here, numbers = of_pixels[..., 0] < CROWD, of_pixels[..., 1]
        masks = torch.stack([here & (numbers == number) for number in numbers[here].unique()])
        boxes = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])
        told.append({"boxes": boxes, "labels": torch.stack([of_pixels[mask][0, 0] for mask in masks]).long() + 1})
        told[-1]["masks"] = masks.to(torch.uint8)
    torch.manual_seed(3)
    expected = theirs(list(batch), told)
    of_masks = expected.pop("loss_mask").item()
    given = cost(net, batch, true, mask_weight=0)
    assert given.item() == pytest.approx(sum(expected.values()).item(), rel=1e-5)
    # Theirs lie half a pixel away, and are sampled by other rules, which changes what they cost by very little.
    assert cost(net, batch, true).item() - given.item() == pytest.approx(of_masks, rel=0.02)


def test_the_cost_of_masks_and_its_slope_are_those_of_torchvision() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 1, 14, 14, generator=random, requires_grad=True)
    true = (torch.rand(5, 40, 40, generator=random) < 0.5).to(torch.uint8)
    boxes, order = torch.tensor([[3.0, 4.0, 31.0, 25.0]]).repeat(5, 1), torch.arange(5)
    expected = maskrcnn_loss(logits, [boxes], [true], [torch.zeros(5, dtype=torch.long)], [order])
    given = mask_costs(logits[:, 0], project_masks_on_boxes(true, boxes, order, 14), "cross_entropy").mean()
    assert given.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(*(torch.autograd.grad(each, logits)[0] for each in (given, expected)))


# --- objects of maps by hand


def painted(rows: list[str], classes: dict[str, tuple[int, int]]) -> Tensor:
    """A map by letters, each of a class and a number."""
    colours = {letter: [kind, number % 256, number // 256] for letter, (kind, number) in classes.items()}
    return torch.tensor([[colours.get(letter, [VOID] * 3) for letter in row] for row in rows], dtype=torch.uint8)


SCENE = painted(
    [
        "aaa...x",
        "aaa....",
        "....bb.",
        "cc..bb.",
        "cc.aa..",
    ],
    {"a": (2, 0), "b": (0, 300), "c": (CROWD, 1), "x": (1, 2)},
)


def test_objects_of_a_map_by_hand() -> None:
    rows, numbers = objects_of_map(torch.stack([SCENE, torch.full_like(SCENE, VOID)]))
    assert rows.shape == (2, 301, 6) and rows.dtype == torch.float32
    assert rows[0, 0].tolist() == [0, 0, 5, 5, 2, 0]  # two pieces of one object
    assert rows[0, 300].tolist() == [4, 2, 6, 4, 0, 0]
    assert rows[0, 1].tolist() == [0, 3, 2, 5, 0, 1]
    assert rows[0, 2].tolist() == [6, 0, 7, 1, 1, 1]  # a pixel: too small to be learnt, and no background
    assert (rows[0, 3:300, 4] == -1).all() and (rows[1, :, 4] == -1).all()
    assert numbers[0, 0].tolist() == [0, 0, 0, -1, -1, -1, 2]
    assert (numbers[1] == -1).all()


def test_maps_without_objects_have_none() -> None:
    rows, numbers = objects_of_map(nothing(3))
    assert rows.shape == (3, 0, 6) and (numbers == -1).all()
    masks = masks_in_boxes(numbers, torch.zeros(0, dtype=torch.long), torch.zeros(0, 4), torch.zeros(0).long(), 14)
    assert masks.shape == (0, 14, 14)


def test_masks_in_boxes_by_hand() -> None:
    mapped = objects_of_map(SCENE[None])
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [3.0, 1.0, 7.0, 5.0], [3.0, 1.0, 5.0, 3.0]])
    objects, pictures_ = torch.tensor([0, 300, 300]), torch.zeros(3, dtype=torch.long)
    given = masks_in_boxes(mapped.numbers, objects, boxes, pictures_, 2)
    # cells of 2 x 2 pixels: of the first box one whole, one half; of the third a pixel each
    assert given.tolist() == [[[1, 0.5], [0, 0]], [[0.25, 0.25], [0.25, 0.25]], [[0, 0], [0, 1]]]


def test_a_mask_put_back_in_its_place_is_where_it_was() -> None:
    rows, numbers = objects_of_map(drawn(4, 96)[1])
    for picture, number in (rows[..., 4] >= 0).nonzero().tolist():
        box = rows[picture, number, :4]
        place = torch.tensor([picture])
        mask = masks_in_boxes(numbers, torch.tensor([number]), box[None], place, 28)
        back = pasted(torch.cat([box, torch.zeros(2), mask.flatten()]), 96)
        inside = numbers[picture] == number
        assert (back & inside).sum() / (back | inside).sum() > 0.95


def test_masks_in_boxes_are_nearly_those_of_torchvision_half_a_pixel_on() -> None:
    rows, numbers = objects_of_map(maps(1, 128))
    box = rows[0, :2, :4] + torch.tensor([3.0, -2.0, 5.0, 1.0])
    inside = torch.stack([numbers[0] == 0, numbers[0] == 1]).float()
    given = masks_in_boxes(numbers, torch.tensor([0, 1]), box, torch.tensor([0, 0]), 28)
    half, none = (
        (given - project_masks_on_boxes(inside, box - shift, torch.tensor([0, 1]), 28)).abs().mean()
        for shift in (0.5, 0.0)
    )
    assert half < 0.015 and none > 1.5 * half


# --- what masks cost


def test_costs_of_masks_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[3.0, -3.0], [3.0, -3.0]]])
    true = torch.tensor([[[1.0, 0.0], [0.5, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
    p = torch.tensor(3.0).sigmoid()
    half, sure = torch.tensor(2.0).log(), -p.log()
    torch.testing.assert_close(mask_costs(logits, true, "cross_entropy"), torch.stack([half, sure]))
    dice = torch.stack([1 - torch.tensor(2 * 0.75 + 1) / (2 + 1.5 + 1), 1 - (4 * p + 1) / (2 + 2 + 1)])
    torch.testing.assert_close(mask_costs(logits, true, "dice"), dice)
    torch.testing.assert_close(mask_costs(logits, true, "both"), dice + torch.stack([half, sure]))


@pytest.mark.parametrize("name", NAMES)
def test_the_weight_of_masks(name: str) -> None:
    net, true = network(name).eval(), maps(2)
    without, once, thrice = (cost(net, pictures(2), true, mask_weight=weight).item() for weight in (0, 1, 3))
    assert once > without
    assert thrice - without == pytest.approx(3 * (once - without), rel=1e-4)
    assert cost(net, pictures(2), true, masks="dice").isfinite()


def test_the_loss_takes_instances_of_networks_that_tell_them() -> None:
    assert (Output.INSTANCES, Target.INSTANCES) in config_class("losses", "detection").takes


# --- prototypes


@pytest.mark.parametrize("stride", [2, 4])
def test_maps_within_boxes_are_those_of_grid_sample(stride: int) -> None:
    random = torch.Generator().manual_seed(0)
    said = torch.randn(3, 12, 16, generator=random, dtype=torch.float64)
    boxes = torch.tensor([[0.0, 0.0, 5.0, 9.0], [3.3, 1.2, 22.5, 20.0], [-4.0, 8.0, 70.0, 60.0]], dtype=torch.float64)
    steps = (torch.arange(14, dtype=torch.float64) + 0.5) / 14
    x, y = (boxes[:, [i]] + (boxes[:, [i + 2]] - boxes[:, [i]]) * steps for i in (0, 1))
    grid = torch.stack(
        torch.broadcast_tensors(2 * x[:, None] / (16 * stride) - 1, 2 * y[:, :, None] / (12 * stride) - 1), dim=3
    )
    expected = F.grid_sample(said[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
    torch.testing.assert_close(within_boxes(said, boxes, stride, 14), expected, rtol=1e-4, atol=1e-5)


def test_a_mask_is_the_sum_of_prototypes_that_its_place_says() -> None:
    net = network("yolo_masks", prototypes=2)
    prototypes = torch.stack([torch.full((16, 16), 2.0), torch.arange(16.0).expand(16, 16)])  # over 64 pixels
    told = net.told(prototypes[None], torch.tensor([[[1.0, 0.0], [0.5, -1.0]]]), torch.tensor([[[8.0, 8, 36, 36]] * 2]))
    assert told.shape == (1, 2, 14, 14)
    assert (told[0, 0] == 2).all()
    # cells of 2 pixels, the first at 9: 9 / 4 - 0.5 of a place of 4 pixels
    torch.testing.assert_close(told[0, 1, 5], 1 - (1.75 + torch.arange(14) / 2))


@pytest.mark.parametrize(("finest", "stride", "side"), [(8, 4, 16), (8, 2, 32), (4, 4, 16), (4, 2, 32)])
def test_prototypes_are_as_fine_as_asked_for(finest: int, stride: int, side: int) -> None:
    net = network("yolo_masks", finest=finest, mask_stride=stride).eval()
    raw = net.raw(pictures(2))
    assert raw.prototypes.shape == (2, 8, side, side) and net.stride == stride
    assert raw.coefficients.shape == (*raw.found.logits.shape[:2], 8)


def test_masks_are_learnt_at_the_best_places_alone() -> None:
    few, many = (network("yolo_masks", learnt=learnt).eval() for learnt in (3, 1000))
    (some,), (every,) = (net.raw(pictures(3)).matched(maps(3)) for net in (few, many))
    assert len(some.masks.logits) == 9 < len(every.masks.logits) == len(every.codes)
    torch.testing.assert_close(every.masks.shares, every.box_shares)
    best = every.box_shares.topk(9).indices.sort().values
    torch.testing.assert_close(some.masks.logits, every.masks.logits[best])
    torch.testing.assert_close(some.masks.true, every.masks.true[best])
    assert some.masks.shares.sum().item() <= 1 + 1e-5
