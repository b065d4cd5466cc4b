"""Batch normalisation in training: too few pictures for it are told, and a second look at a batch is not noted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from engine_project import params_of, prepared, project, training_of
from torch import nn

from pipeline.errors import UserError
from pipeline.models.convnet import Config
from pipeline.train.batch_norms import too_few_values, unnoted
from pipeline.train.epochs import finish_epochs
from pipeline.train.steps import rest_of_epoch

__all__ = ["prepared", "project"]

built = Config.build


@pytest.fixture
def normed(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose networks normalise a single number per picture and channel."""

    def build(config: Config, channels: int, outputs: int, size: int) -> nn.Module:
        return nn.Sequential(*built(config, channels, outputs, size), nn.BatchNorm1d(outputs))

    monkeypatch.setattr(Config, "build", build)
    monkeypatch.setenv("XDG_CACHE_HOME", str(project))
    return project


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        (("train.batch_size=1",), "Set train.batch_size: 2 or more, or take larger pictures (augment.size, train."),
        (("train.accumulation=8",), "Set train.accumulation: 4 or less, or take larger pictures (augment.size, train."),
        (("train.accumulation=8", "compute.compile=always"), "Set train.accumulation: 4 or less, or take larger"),
        (("train.accumulation=8", "compute.memory_format=auto"), "Set train.accumulation: 4 or less, or take larger"),
    ],
)
def test_too_few_pictures_for_batch_normalisation_are_told(normed: Path, changes: tuple[str], remedy: str) -> None:
    with pytest.raises(UserError) as error, training_of(params_of(normed, *changes)) as training:
        finish_epochs(training)
    first, second = str(error.value).splitlines()
    assert first == (
        "train: batch normalisation has one value per channel to go by, for pictures are computed one at a time, and "
        "one pixel is left of each."
    )
    assert second.startswith(remedy)


def test_what_is_to_be_set_then() -> None:
    def remedy(*numbers: int) -> str:
        return str(too_few_values(*numbers)).splitlines()[1].split(" larger pictures")[0]

    assert remedy(16, 99, 4, 4) == "Set train.accumulation: 2 or less, or take"  # four in each process
    assert remedy(4, 99, 1, 4) == "Set train.batch_size: 8 or more, or take"  # one in each
    assert remedy(4, 99, 3, 4) == "Set train.batch_size: 24 or more, or take"
    assert remedy(4, 20, 3, 4) == "Set train.batch_size: 8 or more and train.accumulation: 1, or take"
    assert remedy(1, 1, 1, 1) == "Take"


def test_other_errors_are_not_held_to_be_that(normed: Path) -> None:
    class Refusing(nn.Module):
        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            raise ValueError("another")

    with training_of(params_of(normed)) as training:
        training.machine.learner.network.append(Refusing())  # type: ignore[operator]
        with pytest.raises(ValueError, match="^another$"):
            finish_epochs(training)


def test_a_second_look_is_not_noted() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    pictures = torch.randn(5, 3)
    network(pictures)
    noted = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    places = [buffer.data_ptr() for buffer in network.buffers()]

    def look_again() -> None:
        with unnoted(network):
            network(2 * pictures).sum().backward()
            assert not torch.equal(network[1].running_mean, noted["1.running_mean"])  # type: ignore[arg-type]
            raise MemoryError

    with pytest.raises(MemoryError):
        look_again()
    assert all(torch.equal(tensor, noted[name]) for name, tensor in network.state_dict().items())
    assert [buffer.data_ptr() for buffer in network.buffers()] == places
    assert network[0].weight.grad is not None


def test_an_optimizer_of_two_gradients_notes_a_batch_once(project: Path) -> None:
    with training_of(params_of(project, "optimizer={name: sam, lr: 0.05}")) as training:
        steps = sum(1 for _ in rest_of_epoch(training))
        norms = [each for each in training.machine.learner.modules() if isinstance(each, nn.BatchNorm2d)]
        assert {int(norm.num_batches_tracked) for norm in norms} == {steps}  # type: ignore[arg-type]
