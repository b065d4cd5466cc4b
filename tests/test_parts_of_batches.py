"""A batch in parts: whatever a loss counts, the losses of the parts by their weights are the loss of the whole."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_project import params_of
from ready_files import clashes
from torch import Tensor, nn

from pipeline.contracts import Output, Target
from pipeline.networks import Pointing
from pipeline.plugin import config_class, names
from pipeline.train.batches import Batch
from pipeline.train.learner import Learner, _times
from pipeline.train.machine import Arithmetic, Machine
from pipeline.training import Weighing

CPU, COUNT, CLASSES = torch.device("cpu"), 7, 3
OF_OVERLAPS = {"dice", "jaccard", "lovasz", "tversky"}
"""They are about a class in the whole batch, not about a sum over its pictures, and so each part by itself."""


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def integers(most: int, *shape: int) -> Tensor:
    return torch.randint(0, most, shape, generator=torch.Generator().manual_seed(1))


def numbers() -> Tensor:
    targets = drawn(COUNT, CLASSES)
    targets[0], targets[3, 1] = torch.nan, torch.nan
    return targets


def masks() -> Tensor:
    masks = integers(CLASSES, COUNT, 4, 4).to(torch.uint8)
    masks[0], masks[1, :3], masks[5, 1] = 255, 255, 255
    return masks


def points() -> Tensor:
    known = integers(2, COUNT, CLASSES, 1)
    known[0] = 0
    places = 2 + 28 * drawn(COUNT, CLASSES, 2).sigmoid()
    places[2:4] += 400  # known, and too far outside of the picture for a map to say
    return torch.cat([places, known, known], dim=2).float()


FACES = ("arcface", "cosface")
WEIGHTED = {"class_weights": [1.0, 5.0, 0.5]}
VECTOR = drawn(COUNT, CLASSES)
CASES: dict[Target, dict[Output, tuple[Any, Tensor]]] = {
    Target.LABEL: {Output.VECTOR: (VECTOR, integers(CLASSES, COUNT))},
    Target.GRADE: {Output.VECTOR: (VECTOR, integers(CLASSES, COUNT))},
    Target.LABELS: {Output.VECTOR: (VECTOR, integers(2, COUNT, CLASSES).to(torch.uint8))},
    Target.NUMBERS: {Output.VECTOR: (VECTOR, numbers())},
    Target.COUNTS: {Output.VECTOR: (VECTOR, numbers().abs().round())},
    Target.MASK: {Output.MAP: (drawn(COUNT, CLASSES, 4, 4), masks())},
    Target.POINTS: {
        Output.POINTS: (
            Pointing(drawn(COUNT, CLASSES, 2).float() + 16, 32, drawn(COUNT, CLASSES, 8, 8).float()),
            points(),
        )
    },
    Target.IDENTITY: {Output.EMBEDDING: (drawn(COUNT, 4), integers(CLASSES, COUNT))},
}


def cases() -> list[Any]:
    found = []
    for name in names("losses"):
        config = config_class("losses", name)
        for target, outputs in CASES.items():
            found += [
                pytest.param(name, given, targets, id=f"{name}, {target.name.lower()}")
                for output, (given, targets) in outputs.items()
                if (output, target) in config.takes and not config.compares and name not in OF_OVERLAPS
            ]
    return found


def part_of(said: Any, rows: slice) -> Any:
    if isinstance(said, Pointing):
        return replace(said, places=said.places[rows], maps=said.maps[rows])
    return said[rows]


@pytest.mark.parametrize(("name", "said", "targets"), cases())
def test_the_parts_of_a_batch_cost_what_the_whole_does(name: str, said: Any, targets: Tensor) -> None:
    torch.manual_seed(0)
    config, outputs, options = config_class("losses", name), CLASSES, dict[str, Any]()
    if "class_weights" in config.model_fields:
        options = WEIGHTED
    if name == "sum":
        options = {"terms": [{"name": "cross_entropy", **WEIGHTED}, {"name": "focal", **WEIGHTED}]}
    if name in FACES:
        outputs = 4
    if name == "circular":
        outputs, said, targets = 2 * CLASSES, torch.cat([said, said], dim=1), targets.repeat_interleave(2, dim=1)
    loss = config.model_validate(options).build([4, 4, 4], outputs)  # type: ignore[attr-defined]
    loss = loss if isinstance(said, Pointing) else loss.double()
    weigh = loss.total_weight if isinstance(loss, Weighing) else len
    whole, total = loss(said, targets), float(weigh(targets))
    for cuts in ([0, 1, 4, 7], [0, 3, 7], range(8)):
        rows = [slice(start, stop) for start, stop in pairwise(cuts)]
        parts = [float(weigh(targets[each])) / total * loss(part_of(said, each), targets[each]) for each in rows]
        torch.testing.assert_close(torch.stack(parts).sum(), whole)


def learner_of(loss: nn.Module, mixing: str) -> Learner:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, CLASSES))
    return Learner(Scaled(), network, loss, config_class("mixings", mixing)())  # type: ignore[arg-type]


class Scaled(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.permute(0, 3, 1, 2).float() / 255


def batch() -> Batch:
    return Batch(integers(256, COUNT, 8, 8, 1).to(torch.uint8), integers(CLASSES, COUNT))


@pytest.mark.parametrize("mixing", ["none", "mixup", "cutmix"])
@pytest.mark.parametrize("parts", [2, 3, 7, 9])
def test_a_step_in_parts_is_that_of_the_whole_batch(parts: int, mixing: str) -> None:
    loss = config_class("losses", "cross_entropy")(**WEIGHTED).build([1, 1, 1], CLASSES)
    machines = []
    for accumulation in (1, parts):
        params = params_of(Path("nowhere"), "train.batch_size=64", f"train.accumulation={accumulation}")
        learner = learner_of(loss, mixing)
        machine = Machine.assemble(params, learner, CPU, Arithmetic("float32", "contiguous"), steps=1)
        machines.append((machine, [machine.backward(batch(), seed).item() for seed in range(4)]))
    (whole, costs), (parted, added) = machines
    assert added == pytest.approx(costs, rel=1e-6)
    assert (len({*costs}) == 1) == (mixing == "none")  # another seed blends otherwise
    for one, other in zip(whole.learner.parameters(), parted.learner.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_share_of_one_costs_no_operation() -> None:
    loss = torch.ones(())
    assert _times(loss, 1.0) is loss
    assert _times(loss, torch.tensor(0.25)).item() == 0.25


@pytest.mark.parametrize("loss", ["triplet", "supervised_contrastive"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.accumulation=2", "train.accumulation: 2 would let it see parts of a batch by themselves; set "
         "train.accumulation to 1."),
        ("train.when_out_of_memory=halve", "train.when_out_of_memory: halve would let it see parts of a batch by "
         "themselves; set train.when_out_of_memory to stop."),
        ("compute.processes=2", "compute.processes: 2 would let it see parts of a batch by themselves; set "
         "compute.processes to 1."),
    ],
)  # fmt: skip
def test_a_loss_that_compares_pictures_takes_no_parts(loss: str, change: str, said: str) -> None:
    words = f"  the parts together: loss '{loss}' compares the pictures of a batch with each other, and {said}"
    assert words in clashes("faces-folder", f"loss={{name: {loss}}}", change)
    assert not clashes("faces-folder", f"loss={{name: {loss}}}")
