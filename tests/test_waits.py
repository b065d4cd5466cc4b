"""How often the processor waits for the GPU, on one that is imagined: a step's losses, validation, checkpoints, input.

A real GPU does in between what it was asked before; a wait ends that, and what comes next begins with nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_project import params_of, prepared, project, training_of
from imagined_gpu import GPU, Event, Imagined, Watch, imagined
from torch import Tensor

from pipeline.devices import set_up
from pipeline.masks import VOID
from pipeline.models._detection import answers
from pipeline.models._detection.answers import suppressed
from pipeline.plugin import config_class
from pipeline.train.batches import AHEAD, Batch
from pipeline.train.copies import copied, fetched
from pipeline.train.losses_of_views import losses_of_views

__all__ = ["prepared", "project"]

SIDE, CLASSES = 64, 3
SMALL: dict[str, dict[str, Any]] = {
    "fcos": {"width": 32, "depth": 1},
    "retinanet": {"width": 32, "depth": 1},
    "ssd": {"width": 32},
    "ssdlite": {"width": 32},
    "yolo": {"width": 32, "depth": 1},
    "yolo_masks": {"prototypes": 8},
    "faster_rcnn": {"width": 32, "representation": 16},
    "mask_rcnn": {"width": 32, "representation": 16, "mask_width": 16},
    "rf_detr": {"queries": 10},
}
"""Options that make a network small."""
WAITS = {
    # how many objects there are, and how many places are at one of them
    **dict.fromkeys(("fcos", "retinanet", "ssd", "ssdlite", "yolo"), (2, 1)),
    # how many pixels are on objects, too
    "yolo_masks": (3, 1),
    # that proposals are chosen, how many objects there are, which of the proposals are at one
    "faster_rcnn": (3, 2),
    # how many pixels are on objects, too
    "mask_rcnn": (4, 4),
    # how many objects there are, and what their pairs with the queries cost
    "rf_detr": (2, 0),
}
"""Of our own code in a step, and in the answer that a step does without."""


SLOW = ("rf_detr",)
"""It imports much."""


@pytest.fixture
def gpu() -> Iterator[Watch]:
    with imagined() as watch:
        yield watch
    torch.set_deterministic_debug_mode("default")


def boxes(count: int) -> Tensor:
    """Objects of every size, more of them in later pictures, a crowd in each, and padding."""
    random = torch.Generator().manual_seed(2)
    rows = torch.full((count, 9, 6), -1.0)
    for picture in range(count):
        for row in range(min(picture, 7)):
            sides = (
                SIDE * torch.tensor([0.12, 0.25, 0.5, 0.95])[row % 4] * (0.8 + 0.2 * torch.rand(2, generator=random))
            )
            corner = torch.rand(2, generator=random) * (SIDE - sides)
            rows[picture, row] = torch.tensor([*corner, *(corner + sides), (picture + row) % CLASSES, 0])
        rows[picture, 8] = torch.tensor([0, 0, 20, 20, 1, 1.0])
    return rows


def maps(count: int) -> Tensor:
    """Squares one beside the other, more of them in later pictures."""
    drawn = torch.full((count, SIDE, SIDE, 3), VOID, dtype=torch.uint8)
    for picture in range(count):
        for number in range(picture):
            column = 9 * number % 54
            drawn[picture, column : column + 12, column : column + 8] = torch.tensor([number % CLASSES, number, 0])
    return drawn


def theirs(waits: dict[str, int]) -> int:
    """Those that lines of transformers ask for."""
    return sum(count for words, count in waits.items() if "modeling_" in words)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in SMALL]
)
def test_a_step_of_a_detector_waits_a_few_times_however_many_pictures_it_has(name: str, gpu: Watch) -> None:
    if name == "rf_detr" and not find_spec("transformers"):
        pytest.skip("the extra rf-detr is not installed")
    loss = config_class("losses", "detection")().build([1] * CLASSES, CLASSES)  # type: ignore[attr-defined]
    torch.manual_seed(0)
    net: Any = config_class("models", name).model_validate(SMALL[name]).build(3, CLASSES, SIDE)  # type: ignore[attr-defined]
    targets, pictures = (maps if "mask" in name else boxes)(6), torch.randn(6, 3, SIDE, SIDE)
    torch.set_num_threads(1)
    torch.manual_seed(1)
    expected = loss(net.raw(pictures), targets).item()
    net.to(GPU)
    seen, true = pictures.to(GPU), targets.to(GPU)
    set_up("cuda", 1)
    gpu.waits.clear()
    torch.manual_seed(1)
    raw = net.raw(seen)
    total = loss(raw, true)
    total.backward()
    assert gpu.waits.total() - theirs(gpu.waits) == WAITS[name][0], gpu.waits
    gpu.waits.clear()
    with torch.no_grad():
        net.answer(raw)
    assert gpu.waits.total() <= WAITS[name][1], gpu.waits
    assert total.item() == pytest.approx(expected, rel=1e-5)  # lots are drawn on the processor, so they are the same
    assert not gpu.refused and not gpu.mixed


@pytest.mark.parametrize(("count", "few"), [(200, 2048), (20, 2048), (200, 100), (500, 2048)])
def test_what_is_suppressed_at_once_is_what_is_suppressed_one_by_one(
    gpu: Watch, monkeypatch: pytest.MonkeyPatch, count: int, few: int
) -> None:
    monkeypatch.setattr(answers, "FEW", few)
    random = torch.Generator().manual_seed(0)
    corners = 60 * torch.rand(3, 400, 2, generator=random)
    places = torch.cat([corners, corners + 5 + 40 * torch.rand(3, 400, 2, generator=random)], dim=2)
    scores, classes = (
        torch.rand(3, 400, generator=random).round(decimals=2),
        torch.randint(3, (3, 400), generator=random),
    )
    scores[1, 50:] = 0
    kept, where = suppressed(places, scores, classes, count, 0.3)
    sent = places.to(GPU), scores.to(GPU), classes.to(GPU)
    gpu.waits.clear()
    there = suppressed(*sent, count, 0.3)
    assert gpu.waits.total() == (2 if few < 400 else 1)  # a chain of more than `ROUNDS` boxes would take one more
    assert torch.equal(there[0].cpu(), kept)
    assert torch.equal(there[1].cpu()[kept > 0], where[kept > 0])


@pytest.mark.parametrize("pairs", [2**28, 1])
def test_of_a_long_chain_every_second_box_is_kept(gpu: Watch, monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(answers, "PAIRS", pairs)
    left = torch.arange(50.0)
    chain = torch.stack([left, torch.zeros(50), left + 1.5, torch.ones(50)], dim=1).expand(2, 50, 4)  # each on the next
    sent = chain.to(GPU), (1 - left / 100).expand(2, 50).to(GPU), torch.zeros(2, 50, dtype=torch.int64).to(GPU)
    gpu.waits.clear()
    _, places = suppressed(*sent, 25, 0.15)
    assert gpu.waits.total() == (4 if pairs > 1 else 8)  # 16 steps towards 50 boxes each, of both pictures or of one
    assert places.tolist() == [list(range(0, 50, 2))] * 2


def test_a_validated_batch_waits_once(project: Path, gpu: Watch) -> None:
    with training_of(params_of(project)) as training:
        expected = training.validated()
    with training_of(params_of(project, "compute.device=cuda")) as training:
        batches = -(-len(training.val) // 8)
        gpu.waits.clear()
        found = training.validated()
        assert batches > 1 and gpu.waits.total() == batches
    assert found.score == expected.score
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)


def test_the_losses_of_all_views_wait_once(project: Path, gpu: Watch) -> None:
    random = torch.Generator().manual_seed(0)
    given = [
        Batch(torch.randint(256, (5, 12, 12, 1), generator=random).to(torch.uint8), torch.arange(5) % 2)
        for _ in range(3)
    ]
    with training_of(params_of(project)) as training:
        expected = losses_of_views(training.machine, given)
    with training_of(params_of(project, "compute.device=cuda")) as training:
        gpu.waits.clear()
        found = losses_of_views(training.machine, given)
        assert gpu.waits.total() == 1
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_checkpoint_is_copied_in_one_wait_and_is_its_own(project: Path, gpu: Watch) -> None:
    with training_of(params_of(project, "compute.device=cuda")) as training:
        there = training.machine.learner.state_dict()
        gpu.waits.clear()
        here = training.machine.state()["learner"]
        assert gpu.waits.total() == 1
        assert all(isinstance(each, Imagined) and torch.equal(here[name], each.cpu()) for name, each in there.items())
        before = {name: each.clone() for name, each in here.items()}
        with torch.no_grad():
            for weights in training.machine.learner.parameters():
                weights.add_(1)
        assert all(torch.equal(here[name], each) for name, each in before.items())


def test_what_is_on_the_processor_is_fetched_as_it_is_and_copied_into_memory_of_its_own(gpu: Watch) -> None:
    numbers = torch.arange(3.0)
    (same,) = fetched([numbers])
    other = copied({"a": [numbers]})["a"][0]
    assert same.data_ptr() == numbers.data_ptr() and other.data_ptr() != numbers.data_ptr()
    assert torch.equal(other, numbers) and not gpu.waits


def test_memory_that_the_gpu_has_not_fetched_from_is_not_filled_again(project: Path, gpu: Watch) -> None:
    with training_of(params_of(project, "compute.device=cuda", "compute.pictures=host")) as training:
        gpu.behind = True
        gpu.waits.clear()
        batches = training.batches.epoch(0, 0, np.arange(len(training.train)))
        first = next(batches)
        held = first.pictures.clone(), first.targets.clone()
        sent = first.on(GPU)
        assert all(isinstance(each, Imagined) for each in sent) and not gpu.waits
        for _ in range(AHEAD - 1):  # the thread that is to fill the first one's memory is waiting by now
            next(batches)
        assert torch.equal(first.pictures, held[0]) and torch.equal(first.targets, held[1])
        (event,) = gpu.events
        assert isinstance(event, Event) and not event.passed.is_set()
        event.passed.set()
        for _ in range(2):
            last = next(batches)
        assert last.pictures is first.pictures and not torch.equal(last.pictures, held[0])
        batches.close()


def test_a_part_of_a_batch_whose_memory_is_filled_again_is_waited_for(project: Path, gpu: Watch) -> None:
    with training_of(params_of(project, "compute.device=cuda", "compute.pictures=host")) as training:
        batches = training.batches.epoch(0, 0, np.arange(len(training.train)))
        whole = next(batches)
        part = Batch(whole.pictures, whole.targets)
        gpu.waits.clear()
        part.on(GPU)
        assert gpu.waits.total() == 2
        batches.close()
