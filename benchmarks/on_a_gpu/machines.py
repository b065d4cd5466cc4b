"""Networks with a loss and an optimizer, as params say, and batches for them that were made up on the device."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from bench import Bench
from made_up import SHIPPED

from flows.edits import edited
from pipeline.bundle import normaliser
from pipeline.door import parse
from pipeline.params import Params
from pipeline.train.batches import Batch
from pipeline.train.learner import Learner
from pipeline.train.machine import Arithmetic, Machine, Pace

LR = 1e-4
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
OBJECTS = 10
"""On each picture."""


class Work(NamedTuple):
    """What is learnt."""

    params: Params
    learner: Learner
    """On the device, with fresh weights."""
    batch: Batch


def work(bench: Bench, batch: tuple[int, int], classes: int, *changes: str) -> Work:
    """A network in a learner, and a batch.

    Args:
        bench: where.
        batch: number of pictures, and their side.
        classes: how many are told apart.
        changes: of the shipped params.
    """
    count, side = batch
    params = parse(Params, edited(SHIPPED, [*bench.where, *changes]))
    torch.manual_seed(0)
    network = params.model.build(3, classes, side)
    loss, mixing = params.loss.build([1] * classes, classes), params.mixing
    learner = Learner(normaliser(*IMAGENET), network, loss, mixing).to(bench.device)
    pictures = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8)
    targets = TARGETS.get(params.task.learns.name, _labels)(count, side, classes)
    return Work(params, learner, Batch(pictures.to(bench.device), targets.to(bench.device)))


def machine(bench: Bench, given: Work, arithmetic: Arithmetic) -> Callable[[], object]:
    """A step of Convoy's."""
    learner = copy.deepcopy(given.learner)
    moved = Machine.assemble(given.params, learner, bench.device, arithmetic, 1)
    moved.learn()
    return lambda: moved.step(given.batch, Pace(LR))


def _labels(count: int, side: int, classes: int) -> torch.Tensor:
    return torch.randint(0, classes, (count,))


def _masks(count: int, side: int, classes: int) -> torch.Tensor:
    return torch.randint(0, classes, (count, side, side), dtype=torch.uint8)


def _objects(count: int, side: int, classes: int) -> torch.Tensor:
    """float32 [B, 10, 6], see `contracts.Target`."""
    corners = torch.rand(count, OBJECTS, 2) * side * 0.6
    sizes = (0.05 + 0.3 * torch.rand(count, OBJECTS, 2)) * side
    labels = torch.randint(0, classes, (count, OBJECTS, 1))
    return torch.cat([corners, corners + sizes, labels, torch.zeros_like(labels)], dim=2)


TARGETS: dict[str, Callable[[int, int, int], torch.Tensor]] = {"MASK": _masks, "OBJECTS": _objects}
"""What is learnt of pictures, beside labels."""
