"""A dataset and policy of 60 tiny pictures, to assemble trainings on in this process, within a tenth of a second."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from small_project import make_pictures

from flows.edits import edited
from pipeline.augment import stage as augment
from pipeline.dataset import Dataset
from pipeline.door import parse
from pipeline.files import DATASET
from pipeline.ingest import stage as ingest
from pipeline.params import Params
from pipeline.plugin import config_class
from pipeline.policy import POLICY, Policy
from pipeline.train.assembly import Training, assemble

SHIPPED = (Path(__file__).parents[1] / "params.yaml").read_text()
SMALL = (
    "name=shades",
    "augment={name: none, size: 12}",
    "model={name: convnet, width: 4}",
    "train.epochs=3",
    "train.batch_size=8",
    "train.checkpoint_seconds=1000",
    "compute={device: cpu, precision: float32, memory_format: contiguous, compile: never}",
    "compute.threads=1",
    "compute.loader_threads=1",
)


def params_of(folder: Path, *changes: str) -> Params:
    """The shipped params, made small, with some changes more."""
    source = f"data={{name: folder, path: {folder / 'pictures'}}}"
    return parse(Params, edited(SHIPPED, [source, *SMALL, *changes]))


def begun(folder: Path, **options: object) -> str:
    """The small model as one that begins with weights of a file, which layers may rest on."""
    build, path = config_class("models", "convnet"), folder / "begun.pth"
    torch.manual_seed(0)
    torch.save(build(width=4).build(1, 2, 12).state_dict(), path)
    digest = f"'{hashlib.sha256(path.read_bytes()).hexdigest()}'"  # in quotes: it may look like a number
    about = {"width": 4, "weights": path, "weights_sha256": digest, **options}
    return f"model={{name: convnet, {', '.join(f'{key}: {value}' for key, value in about.items())}}}"


def prepare(folder: Path, *changes: str) -> Params:
    """Ingest and augment in the current folder, which is `folder`."""
    make_pictures(folder / "pictures")
    params = params_of(folder, *changes)
    ingest.run(params, DATASET)
    POLICY.parent.mkdir(parents=True)
    augment.run(params, Dataset.open(), POLICY.parent)
    return params


@contextmanager
def training_of(params: Params) -> Iterator[Training]:
    """A training, assembled; its threads end with it."""
    training = assemble(params, Dataset.open(), Policy.open())
    try:
        yield training
    finally:
        training.close()
        torch.set_deterministic_debug_mode("default")


def flat(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """All values in one row."""
    return torch.cat([tensor.detach().flatten().double() for tensor in tensors])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where ingest and augment have run."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare(folder)
    return folder


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in."""
    folder = shutil.copytree(prepared, tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def training(project: Path) -> Iterator[Training]:
    """A training there."""
    with training_of(params_of(project)) as found:
        yield found


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
