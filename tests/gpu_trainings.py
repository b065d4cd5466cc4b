"""What is trained on a GPU, on an imagined one and on a real one, and what both are asked about operations of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from ready_files import ROOT
from tiny_sources import SOURCES
from torch import Tensor

from flows.edits import edited, merged
from pipeline.augment import stage as augment
from pipeline.dataset import Dataset
from pipeline.door import parse
from pipeline.files import DATASET
from pipeline.ingest import stage as ingest
from pipeline.params import Params
from pipeline.plugin import names
from pipeline.policy import POLICY
from pipeline.train.assembly import Training
from pipeline.train.steps import rest_of_epoch

GPU = torch.device("cuda:0")
ON_GPU = "compute.device=cuda"
NEEDS_GPU = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch sees no GPU here, and what is tested is what a real one does"
)

CHANGES = [
    *([f"optimizer={{name: {name}, lr: 0.01}}"] for name in names("optimizers")),
    ["optimizer={name: muon, others: sgd, fixed_norm: true, matrices: true}"],
    ["optimizer={name: sam, adaptive: true}"],
    *([f"average={{name: {name}}}"] for name in names("averages")),
    *([f"mixing={{name: {name}}}", "train.accumulation=2", "train.clip_norm=1"] for name in names("mixings")),
    ["train.first_size=8"],
    ["train.recompute=true", "compute.memory_format=channels_last"],
    ["loss={name: focal, class_weights: balanced}"],
    ["augment={name: standard, size: 12, erase: 0.5}"],
]
READY = {
    "counting": (),
    "multi-label-folder": ("loss={name: asymmetric}", "model={name: convnet, width: 4}"),
    "ordinal": ("model={name: convnet, width: 4}",),
    "regression-table": (),
    "faces-folder": (),
    "keypoints-table": (),
    "segmentation-masks": ("model={name: unet, width: 4, depth: 2}",),
    "detection-coco": (),
    "detection-mosaic": (),
    "instances-coco": (),
    "cifar10-speedrun": (),
}
"""A file of each task, with what makes it small."""
NETWORKS = {
    "segmentation-masks": "model={name: segmentation_models, architecture: pspnet}",
    "classification-folder": "model={name: timm, architecture: resnet18}",
    "detection-coco": "model={name: rf_detr, queries: 10}",
}
"""Some whose kernels have no repeatable gradient on a GPU."""
TASKS = [*READY.items(), *((name, (change,)) for name, change in NETWORKS.items())]
PARTS = [2, 3, (4, 5), (None, 1), 12, 1]
"""Numbers of parts that maps of 12 x 7 are averaged over."""


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Convolutions in float32 are that, and not TF32; what a test changes for the process does not stay."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        yield
    torch.set_deterministic_debug_mode("default")
    torch.compiler.reset()


def augmented(params: Params) -> Params:
    """The same, once the policy is that of these params."""
    for file in POLICY.parent.iterdir():
        file.unlink()
    augment.run(params, Dataset.open(), POLICY.parent)
    return params


def ready(name: str, folder: Path, *changes: str) -> Params:
    """A ready file over a tiny source, ingested and with a policy; all that it computes is on the GPU."""
    file = ROOT / "params" / f"{name}.yaml"
    text = merged(file.read_text(), (ROOT / "params.yaml").read_text(), str(file))
    SOURCES[name](folder / "source")
    few = (
        *("train.epochs=1", "train.batch_size=8", "augment.size=64", "train.checkpoint_seconds=1000"),
        "compute={device: cuda, precision: float32, memory_format: contiguous, compile: never, threads: 1}",
    )
    params = parse(Params, edited(text, [f"data.path={folder / 'source'}", *few, *changes]))
    ingest.run(params, DATASET)
    POLICY.parent.mkdir(parents=True)
    augment.run(params, Dataset.open(), POLICY.parent)
    return params


def losses_of_epoch(training: Training) -> Tensor:
    """The losses of an epoch, on the device: to read them waits for it."""
    with closing(rest_of_epoch(training)) as steps:
        return torch.stack([step.loss for step in steps])


def learnt(function: Callable[..., Any], *given: Tensor) -> list[Tensor]:
    """What a function gives, and the gradient of its squares."""
    leaves = [each.detach().requires_grad_() for each in given]
    result = function(*leaves)
    result.square().sum().backward()
    return [result.detach().cpu(), *(leaf.grad.cpu() for leaf in leaves if leaf.grad is not None)]
