"""A network of few weights whose activations are large, for trainings that have little memory.

It has no convolution: where those get no memory of their own, the library that computes them ends the process.
"""

from __future__ import annotations

import resource
from pathlib import Path

import torch
from engine_project import params_of, training_of
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.models.convnet import Config
from pipeline.train.epochs import finish_epochs

SIZE = ("augment={name: none, size: 64}", "train.batch_size=40", "train.epochs=2", "train.checkpoint_seconds=0")
ROOM = 100_000_000
"""Bytes for a training whose step takes about 200 MB."""


class Wide(nn.Module):
    """32 maps of the size of the picture, ten times."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.scales = nn.Parameter(torch.linspace(0.5, 1.5, 32)[:, None, None])
        self.head = nn.Linear(32, outputs)

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.norm(pictures) * self.scales
        for _ in range(8):
            maps = torch.tanh(maps * self.scales)
        answer: Tensor = self.head(maps.mean((2, 3)))
        return answer


def taken() -> int:
    """Bytes of addresses that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def trained(*changes: str, room: int = 0) -> tuple[int, dict[str, Tensor]]:
    """In how many parts a training came to compute its batches, and the weights, with so much memory more than now."""
    with training_of(params_of(Path.cwd(), *SIZE, *changes)) as training:
        if room:
            resource.setrlimit(resource.RLIMIT_AS, (taken() + room, resource.RLIM_INFINITY))
        try:
            finish_epochs(training)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        weights = {name: tensor.clone() for name, tensor in training.machine.learner.state_dict().items()}
        return training.machine.accumulation, weights


def train_in_little_memory() -> int:
    """What comes of it, in lines."""
    Config.build = lambda self, channels, outputs, size: Wide(outputs)  # type: ignore[method-assign]
    trained("train.accumulation=40")  # threads and libraries take what they need
    try:
        trained("seed=1", room=ROOM)
    except UserError as error:
        print(error)
    parts, halved = trained("train.when_out_of_memory=halve", room=ROOM)
    _, told = trained(f"train.accumulation={parts}")
    print("parts", parts)
    print("the same", all(torch.equal(tensor, told[name]) for name, tensor in halved.items()))
    return 0
