"""RF-DETR of transformers as a model here: the same losses and answers, exported, and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou

from pipeline.bundle import Bundle, BundleInfo, normaliser, write
from pipeline.errors import UserError
from pipeline.models._detection.hungarian import Rules, assigned, centred, corners
from pipeline.models._detection.matching import truths
from pipeline.models.rf_detr import RFDETR, Config
from pipeline.networks import BACKGROUND, IGNORED
from pipeline.plugin import config_class

pytestmark = pytest.mark.skipif(not find_spec("transformers"), reason="the extra rf-detr is not installed")

CLASSES, SIDE = 3, 96


@pytest.fixture(scope="module")
def network() -> Iterator[RFDETR]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield Config(queries=10, detections=8, score_threshold=0.001).build(3, CLASSES, SIDE)  # type: ignore[misc]
    torch.set_num_threads(threads)


def pictures(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def objects(*rows: Any) -> Tensor:
    """Of two pictures, in pixels; the first has the rows, the second one object."""
    table = torch.full((2, 4, 6), -1.0)
    for place, row in enumerate(rows):
        table[0, place] = torch.tensor(row, dtype=torch.float32)
    table[1, 0] = torch.tensor([5, 5, 60, 30, 0, 0])
    return table


TWO = ([10, 12, 40, 60, 2, 0], [50, 50, 90, 80, 1, 0])


def cost(net: RFDETR, rows: Tensor) -> Tensor:
    loss: nn.Module = config_class("losses", "detection")().build([1] * CLASSES, CLASSES)  # type: ignore[attr-defined]
    torch.manual_seed(3)
    total: Tensor = loss(net.raw(pictures()), rows)
    return total


@pytest.mark.slow
def test_the_loss_and_its_gradient_are_those_of_transformers(network: RFDETR) -> None:
    net, rows = network.train(), objects(*TWO)
    mine = cost(net, rows)
    mine.backward()
    ours = {name: weights.grad for name, weights in net.library.named_parameters()}
    net.zero_grad()
    labels = []
    for of_one in rows:
        real = of_one[of_one[:, 4] >= 0]
        labels.append({"class_labels": real[:, 4].long(), "boxes": centred(real[:, :4] / SIDE)})
    torch.manual_seed(3)
    theirs = net.library(pictures(), labels=labels).loss
    theirs.backward()
    assert mine.item() == pytest.approx(theirs.item(), rel=1e-6)
    for name, weights in net.library.named_parameters():
        if weights.grad is not None:
            torch.testing.assert_close(ours[name], weights.grad, rtol=1e-3, atol=1e-6)
    net.zero_grad()


@pytest.mark.slow
def test_the_answers_are_the_best_pairs_of_query_and_class(network: RFDETR) -> None:
    net = network.eval()
    with torch.no_grad():
        said = net.library(pictures())
        rows = net(pictures())
    assert rows.shape == (2, 8, 6)
    scores = said.logits.sigmoid()
    for picture in range(2):
        pairs = sorted(((scores[picture, q, k].item(), q, k) for q in range(10) for k in range(CLASSES)), reverse=True)[
            :8
        ]
        boxes = (corners(said.pred_boxes[picture]) * SIDE).clamp(0, SIDE)
        expected = [[*boxes[q].tolist(), score, k] for score, q, k in pairs]
        assert rows[picture].tolist() == pytest.approx(np.array(expected), abs=1e-4)


@pytest.mark.slow
def test_exported_it_gives_the_same_answers(network: RFDETR, tmp_path: Path) -> None:
    task = {"name": "object_detection"}
    info = {"channels": 3, "packed": SIDE, "size": SIDE, "mean": [0.5] * 3, "deviation": [0.25] * 3}
    about = BundleInfo(task=task, classes=["a", "b", "c"], model={}, parameters=1, dataset="", **info)  # type: ignore[arg-type]
    write(tmp_path, about, network)
    seen = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    with torch.no_grad():
        eager = network.eval()(normaliser([0.5] * 3, [0.25] * 3)(torch.from_numpy(seen))).numpy()
    for count in (1, 2, 3):
        (told,) = Bundle.open(tmp_path).outputs(seen[:count])
        np.testing.assert_allclose(told, eager[:count], atol=1e-4)
    weights = tmp_path / "weights.safetensors"
    torch.manual_seed(5)
    again = Config(queries=10, detections=8, score_threshold=0.001, weights=str(weights)).build(3, 5, SIDE)
    own, taken = network.state_dict(), again.state_dict()
    assert all(torch.equal(taken[name], own[name]) for name in own if "class_embed" not in name)
    with pytest.raises(UserError, match=r"is of another network: .* of another shape"):
        Config(queries=9, weights=str(weights)).build(3, CLASSES, SIDE)


def test_each_object_has_one_query_of_each_group_at_the_least_cost() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 12, CLASSES, generator=random)
    boxes = torch.rand(1, 12, 4, generator=random) * 0.5 + 0.2
    rows = torch.tensor([[[10.0, 10, 30, 40, 1, 0], [50, 40, 90, 90, 2, 0], [0, 0, 96, 96, 0, 1]]])
    rules = Rules(side=SIDE, group=6, classes=0.0, l1=5.0, giou=0.0)
    (found,) = assigned([(logits, boxes)], truths(rows), rules)
    aims = centred(rows[0, :2, :4] / SIDE)
    for start in (0, 6):
        costs = (boxes[0, start : start + 6, None] - aims[None]).abs().sum(dim=2)
        queries, places = linear_sum_assignment(costs.numpy())
        for query, place in zip(queries, places, strict=True):
            assert found.labels[0, start + query] == (1, 2)[place]
    assert len(found.places) == 4
    others = found.labels[0][found.labels[0] < 0]
    assert set(others.tolist()) <= {BACKGROUND, IGNORED}  # what lies in the crowd is not judged
    inside = corners(boxes[0]).clamp(0, 1)
    assert (found.labels[0] == IGNORED).sum() > 0 and inside.shape == (12, 4)


def test_a_crowd_hides_what_is_said_in_it_and_more_objects_than_queries_are_no_error() -> None:
    logits, boxes = torch.zeros(1, 2, 1), torch.tensor([[[0.25, 0.25, 0.2, 0.2], [0.75, 0.75, 0.2, 0.2]]])
    rules = Rules(side=100, group=2, classes=2.0, l1=5.0, giou=2.0)

    def labels(rows: Tensor) -> Any:
        return assigned([(logits, boxes)], truths(rows), rules)[0].labels.tolist()

    crowd = torch.tensor([[[0.0, 0, 50, 50, 0, 1]]])
    assert labels(crowd) == [[IGNORED, BACKGROUND]]
    three = torch.tensor([[[10.0, 10, 40, 40, 0, 0], [60, 60, 90, 90, 0, 0], [40, 40, 45, 45, 0, 0]]])
    assert labels(three) == [[0, 0]]


def test_pairs_of_a_batch_in_stages_are_those_of_scipy_one_by_one() -> None:
    random = torch.Generator().manual_seed(0)
    stages = [
        (torch.randn(3, 20, CLASSES, generator=random), 0.2 + 0.5 * torch.rand(3, 20, 4, generator=random))
        for _ in range(2)
    ]
    rows = torch.full((3, 4, 6), -1.0)
    rows[0, 1], rows[0, 3] = torch.tensor([10.0, 12, 40, 60, 2, 0]), torch.tensor([50.0, 50, 90, 80, 1, 0])
    rows[2, 0] = torch.tensor([5.0, 5, 60, 30, 0, 0])
    truth, rules = truths(rows), Rules(side=SIDE, group=5, classes=2.0, l1=5.0, giou=2.0)
    for (logits, boxes), found in zip(stages, assigned(stages, truth, rules), strict=True):
        places, aims = [], []
        for picture in range(3):
            real = rows[picture][rows[picture, :, 4] >= 0]
            true, sure = real[:, :4] / SIDE, logits[picture].sigmoid()[:, real[:, 4].long()]
            focal = 0.25 * (1 - sure) ** 2 * -(sure + 1e-8).log() - 0.75 * sure**2 * -(1 - sure + 1e-8).log()
            said = corners(boxes[picture])
            costs = (
                2 * focal + 5 * torch.cdist(boxes[picture], centred(true), p=1) - 2 * generalized_box_iou(said, true)
            )
            for start in range(0, 20, 5) if len(real) else ():
                queries, objects_ = linear_sum_assignment(costs[start : start + 5].numpy())
                places += [picture * 20 + start + int(query) for query in queries]
                aims.append(true[objects_])
        assert found.places.tolist() == places and torch.equal(found.boxes, torch.cat(aims))


@pytest.mark.parametrize(
    ("options", "size", "words"),
    [
        ({}, 100, "a multiple of 32 pixels, and augment.size is 100: set it to 96"),
        ({}, 96, "among 36 places of a picture of 96 pixels, and model.queries is 300"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(options: dict[str, Any], size: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Config(**options).build(3, CLASSES, size)


def test_without_transformers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"needs the package transformers.*uv pip install 'transformers>=5.20,<6'"):
        Config(queries=10).build(3, CLASSES, SIDE)


@pytest.mark.slow
def test_a_file_of_other_weights_is_refused(network: RFDETR, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"is of another network: \d+ missing"):
        Config(queries=10, weights=str(tmp_path / "other.safetensors")).build(3, CLASSES, SIDE)
