"""Twice on a real GPU: the same bits, of every task, in any precision, compiled or not, killed in between or not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from engine_project import params_of, prepared, project, training_of
from gpu_trainings import GPU, NEEDS_GPU, ON_GPU, TASKS, augmented, exact, ready
from test_detectors import LIGHT
from test_instance_models import LIGHT as LIGHT_INSTANCES
from test_parts_resume import ends_alike
from test_parts_resume import prepared as due
from torch import Tensor

from pipeline.files import STATE
from pipeline.params import Params
from pipeline.train.epochs import finish_epochs

__all__ = ["due", "exact", "prepared", "project"]

pytestmark = NEEDS_GPU

FINDERS = [
    (file, (f"model={json.dumps({'name': name, **options})}",))
    for file, light in (("detection-coco", LIGHT), ("instances-coco", LIGHT_INSTANCES))
    for name, options in light.items()
]
"""Networks that find things, small."""


def trained(params: Params) -> dict[str, Tensor]:
    """What a training comes to that begins anew."""
    shutil.rmtree(STATE / "train", ignore_errors=True)
    with training_of(params) as training:
        finish_epochs(training)
        assert training.machine.device == GPU
        return {name: tensor.cpu() for name, tensor in training.machine.learner.state_dict().items()}


def same_twice(params: Params) -> bool:
    """Whether two trainings end in the same bits, of numbers."""
    one, other = trained(params), trained(params)
    assert all(tensor.isfinite().all() for tensor in one.values())
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("execution", ["eager", "compiled"])
def test_a_classifier_ends_in_the_same_bits_twice(project: Path, precision: str, execution: str) -> None:
    learns = {
        "eager": ("model={name: torchvision, architecture: resnet18}", "augment={name: standard, size: 64}"),
        "compiled": ("model={name: convnet, width: 16}", "compute.compile=always"),
    }
    layout = (f"compute.precision={precision}", "compute.memory_format=channels_last")
    assert same_twice(augmented(params_of(project, ON_GPU, *layout, *learns[execution])))


@pytest.mark.parametrize(("name", "changes"), [*TASKS, *FINDERS])
def test_every_task_ends_in_the_same_bits_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, changes: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert same_twice(ready(name, tmp_path, *changes))


@pytest.mark.parametrize(
    "changes",
    [
        ("average={name: swa}", "order={name: curriculum}", "train.first_size=12"),
        ("compute.precision=float16", "average={name: ema}", "mixing={name: both}"),
        ("compute.precision=bfloat16", "compute.memory_format=channels_last", "compute.compile=always"),
    ],
)
def test_killed_and_started_again_it_ends_in_the_same_bits(due: Path, tmp_path: Path, changes: tuple[str, ...]) -> None:
    afresh = str(tmp_path / "compiled")  # what a compiler has kept of another training is not at hand
    assert ends_alike(due, tmp_path, *changes, ON_GPU, TORCHINDUCTOR_CACHE_DIR=afresh)
