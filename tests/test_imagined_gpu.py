"""What a GPU would refuse or wait for, found out without one: every part learns on an imagined GPU, as on a real one.

How a GPU rounds, mixed precision and the kernels themselves are not imagined.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_project import flat, params_of, prepared, project, training_of
from gpu_trainings import CHANGES, PARTS, TASKS, augmented, learnt, losses_of_epoch, ready
from imagined_gpu import GPU, Imagined, Watch, imagined
from test_variations import CHAINS, COUNT, SAMPLES, pictures, planned
from torch.nn import functional as F

from pipeline.devices import averaged, sampled
from pipeline.train.epochs import finish_epochs
from pipeline.variations.device import vary

__all__ = ["prepared", "project"]


@pytest.fixture
def gpu() -> Iterator[Watch]:
    with imagined() as watch:
        yield watch
    torch.set_deterministic_debug_mode("default")


@pytest.mark.parametrize("changes", CHANGES, ids=" ".join)
def test_a_step_waits_for_nothing_and_learns_what_the_processor_does(
    project: Path, gpu: Watch, changes: list[str]
) -> None:
    with training_of(augmented(params_of(project, *changes, "compute.pictures=device"))) as training:
        expected = losses_of_epoch(training).tolist()
    with training_of(params_of(project, *changes, "compute.device=cuda")) as training:
        assert training.machine.device == GPU
        gpu.waits.clear()
        losses = losses_of_epoch(training).tolist()
        assert gpu.waits == {next(iter(gpu.waits)): 1}  # the one with which the losses are read
        assert all(isinstance(weights, Imagined) for weights in training.machine.learner.parameters())
    rounding = 1e-2 if "muon" in changes[0] else 1e-4  # Muon reckons in bfloat16 there
    assert losses == pytest.approx(expected, rel=rounding)
    assert not gpu.refused and not gpu.mixed


def test_a_training_from_its_first_step_to_its_last(project: Path, gpu: Watch) -> None:
    with training_of(params_of(project, "compute.device=cuda", "compute.memory_format=auto")) as training:
        finish_epochs(training)
        assert training.progress.epoch == 3 and training.progress.best_score > 0.9
    assert not gpu.refused and not gpu.mixed


@pytest.mark.parametrize("name", CHAINS)
def test_pictures_are_varied_there_to_the_same_pixels_and_nobody_waits(name: str, gpu: Watch) -> None:
    plan, which = planned(CHAINS[name]), np.arange(COUNT)
    drawn, given = plan.drawn(SAMPLES, 7, 3), torch.from_numpy(pictures())
    there = given.to(GPU)
    gpu.waits.clear()
    varied = vary(plan, there, which, drawn)
    assert not gpu.waits
    assert torch.equal(varied.cpu(), vary(plan, given, which, drawn))


@pytest.mark.parametrize("output", PARTS)
def test_means_of_parts_are_torchs_with_a_gradient_that_is_repeatable(gpu: Watch, output: object) -> None:
    torch.set_deterministic_debug_mode("error")
    maps = torch.randn(2, 3, 12, 7)
    expected = learnt(lambda each: F.adaptive_avg_pool2d(each, output), maps)  # type: ignore[arg-type]
    found = learnt(lambda each: averaged(each, output), maps.to(GPU))
    assert not gpu.refused
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("corners", [False, True])
def test_samples_are_torchs_with_a_gradient_that_is_repeatable(gpu: Watch, corners: bool) -> None:
    torch.set_deterministic_debug_mode("error")
    maps, places = torch.randn(2, 3, 5, 7), torch.rand(2, 4, 6, 2) * 2.6 - 1.3
    expected = learnt(lambda *each: F.grid_sample(*each, align_corners=corners), maps, places)
    found = learnt(lambda *each: sampled(*each, align_corners=corners), maps.to(GPU), places.to(GPU))
    assert not gpu.refused
    torch.testing.assert_close(found, expected)


def test_the_imagined_gpu_refuses_and_waits_as_a_real_one(gpu: Watch) -> None:
    numbers = torch.arange(12.0).view(3, 4).to(GPU)
    assert numbers.is_cuda and numbers.device == GPU
    with pytest.raises(RuntimeError, match="same device"):
        numbers + torch.ones(3, 4)
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(numbers)
    assert (numbers + torch.tensor(1.0)).sum() == 78  # a scalar of the processor is let in, and a comparison waits
    gpu.waits.clear()
    assert numbers[numbers > 9].tolist() == [10, 11] and numbers[:, [0, 2]].cpu()[0].tolist() == [0, 2]
    assert {words.split(":")[0]: count for words, count in gpu.waits.items()} == {
        "index by a mask": 1,
        "_to_copy from the GPU": 2,
        "_to_copy to the GPU": 1,
    }
    maps = torch.randn(1, 1, 5, 5).to(GPU).requires_grad_()
    gpu.strict = True
    with pytest.raises(RuntimeError, match="_adaptive_avg_pool2d_backward does not have a deterministic"):
        F.adaptive_avg_pool2d(maps, 2).sum().backward()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "changes"), TASKS)
def test_every_task_learns_and_is_validated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: Watch, name: str, changes: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    params = ready(name, tmp_path, *changes)
    with training_of(params) as training:
        finish_epochs(training)
        assert training.progress.epoch == 1
        assert flat([*training.machine.learner.parameters()]).isfinite().all()
    assert not gpu.refused and not gpu.mixed
