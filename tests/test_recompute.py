"""Blocks that forget what they compute and compute it again: the same losses, gradients and statistics, bit for bit."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from engine_project import params_of, prepare, training_of
from torch import Tensor, nn

from pipeline.plugin import config_class
from pipeline.train.epochs import finish_epochs
from pipeline.train.recompute import blocks_of, recompute

CLASSES = 5


def part(name: str, **options: Any) -> nn.Module:
    return config_class("models", name).model_validate(options).build(3, CLASSES, 32)


class Flat(nn.Sequential):
    """Single layers in a row, as VGG has them, behind a sequence of its own."""

    def __init__(self) -> None:
        rows = [[nn.Conv2d(3 if n == 0 else 8, 8, 3, padding=1), nn.ReLU(inplace=True)] for n in range(9)]
        super().__init__(nn.Sequential(*(layer for row in rows for layer in row)), nn.Flatten(), nn.LazyLinear(CLASSES))
        self(torch.zeros(1, 3, 32, 32))


class Again(nn.Sequential):
    """Single layers in a row, one of which comes again and again."""

    def __init__(self) -> None:
        again = nn.Tanh()
        rows = [[nn.Conv2d(3 if n == 0 else 8, 8, 3, padding=1), again] for n in range(9)]
        super().__init__(nn.Sequential(*(layer for row in rows for layer in row)), nn.Flatten(), nn.LazyLinear(CLASSES))
        self(torch.zeros(1, 3, 32, 32))


class Counting(nn.Module):
    """Notes in a buffer how often it was asked, and lets that decide; begins by changing in place what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.SiLU(inplace=True)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("asked", torch.zeros(()))

    def forward(self, values: Tensor) -> Tensor:
        self.asked += 1
        return self.second(torch.tanh(self.first(self.act(values) * 1.5)))


class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.blocks = nn.ModuleList(Counting() for _ in range(6))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        values = self.stem(pictures.mean((2, 3)))
        for block in self.blocks:
            values = block(values * 1)
        answer: Tensor = self.head(values)
        return answer


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "convnet": lambda: part("convnet", width=8, depth=2, dropout=0.3),
    "resnet": lambda: timm.create_model("test_resnet", num_classes=CLASSES, drop_path_rate=0.3),
    "transformer": lambda: timm.create_model("test_vit", num_classes=CLASSES, img_size=32, drop_rate=0.3),
    "dense": lambda: torchvision.models.DenseNet(8, (3, 3, 3), 16, drop_rate=0.3, num_classes=CLASSES),
    "flat": Flat,
    "again": Again,
    "counting": Counted,
}


def learnt(network: nn.Module) -> tuple[Tensor, int]:
    """Let it learn from some pictures: its answers, and how many bytes it kept for the gradient."""
    kept = 0

    def note(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    pictures = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        answers = network.train()(pictures)
    (answers * torch.linspace(-1, 1, answers.numel()).view_as(answers)).sum().backward()
    return answers, kept


@pytest.mark.parametrize("name", NETWORKS)
def test_it_changes_nothing_but_the_memory(name: str) -> None:
    torch.manual_seed(0)
    plain = NETWORKS[name]()
    forgetful = copy.deepcopy(plain)
    recompute(forgetful)
    forgetful = copy.deepcopy(forgetful)  # as the probe does
    assert list(forgetful.state_dict()) == list(plain.state_dict())
    (answers, kept), (same, less) = learnt(plain), learnt(forgetful)
    assert torch.equal(answers, same)
    assert less < 0.6 * kept
    for (key, weights), other in zip(plain.named_parameters(), forgetful.parameters(), strict=True):
        assert torch.equal(weights.grad, other.grad), key
    for (key, tensor), other in zip(plain.state_dict().items(), forgetful.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), key


def test_modules_that_are_replaced_later_are_those_that_it_calls() -> None:
    layers = [[nn.Conv2d(3 if n == 0 else 8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()] for n in range(6)]
    network = nn.Sequential(*(each for row in layers for each in row), nn.Flatten(), nn.Linear(8 * 32 * 32, CLASSES))
    recompute(network)
    nn.SyncBatchNorm.convert_sync_batchnorm(network)  # as several processes do on GPUs
    network.eval()
    called = []
    for module in network:
        module.register_forward_hook(lambda module, *_: called.append((type(module), module.training)))
    before = copy.deepcopy(network.state_dict())
    network(torch.randn(2, 3, 32, 32))
    assert called.count((nn.SyncBatchNorm, False)) == 6
    assert len(called) == len(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnet", "resnet", "flat"])
def test_what_is_exported_is_not_changed(name: str) -> None:
    plain = NETWORKS[name]()
    forgetful = copy.deepcopy(plain)
    recompute(forgetful)
    one, other = (
        torch.export.export(network.eval(), (torch.zeros(2, 3, 32, 32),), strict=False)
        for network in (plain, forgetful)
    )
    assert str(one.graph) == str(other.graph)


def test_blocks_are_residual_blocks_layers_of_transformers_and_runs() -> None:
    def named(name: str) -> list[str]:
        return [f"{block.names[0]}..{block.names[-1]}" for block in blocks_of(NETWORKS[name]())]

    resnet = torchvision.models.resnet50()
    assert [block.names for block in blocks_of(resnet)] == [
        (f"layer{stage}.{block}",) for stage, count in enumerate((3, 4, 6, 3), start=1) for block in range(count)
    ]
    assert named("transformer") == [f"blocks.{n}..blocks.{n}" for n in range(len(named("transformer")))]
    assert named("flat") == ["0.0..0.6", "0.7..0.14"]  # four of ten layers each; the last one is alone
    assert named("counting") == [f"blocks.{n}..blocks.{n}" for n in range(6)]


@pytest.mark.slow
def test_a_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    ends = []
    for changes in ((), ("train.recompute=true",)):
        options = ("model={name: convnet, width: 4, depth: 2, dropout: 0.3}", "train.accumulation=2", *changes)
        with training_of(params_of(tmp_path, *options)) as training:
            finish_epochs(training)
            ends.append(training.machine.learner.state_dict())
        shutil.rmtree(training.checkpoints.home)
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_a_network_that_has_no_blocks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    params = prepare(tmp_path, "augment.size=32", "model={name: lenet5}", "train.recompute=true", "ensemble.members=2")
    capsys.readouterr()
    with training_of(params):
        assert capsys.readouterr().out == (
            "train: train.recompute is true, but model 'lenet5' has no block of several layers that could forget: it "
            "changes nothing\n"
        )
    with training_of(params_of(tmp_path, "augment.size=32", "train.recompute=true")):
        assert not capsys.readouterr().out
