"""Small trainings for tests that stop them: 11 steps an epoch, each with a checkpoint."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from forked import Ended, Forked, stage

from pipeline.bundle import digest_of
from pipeline.door import parse
from pipeline.failpoints import VARIABLE, TrainingPoint
from pipeline.files import sha256_of
from pipeline.params import Params
from pipeline.train import seen
from pipeline.train.generations import CURRENT

ROOT = Path(__file__).parents[1]
EPOCHS = 3
IMAGES = 752
"""That are learnt from."""
STEPS = IMAGES // 64
"""Of an epoch."""
SMALL: dict[str, dict[str, Any]] = {
    "split": {"val": 0.1, "test": 0.5},
    "model": {"name": "lenet5"},
    "train": {"epochs": EPOCHS, "checkpoint_seconds": 0},
    "compute": {
        "precision": "float32",
        "memory_format": "contiguous",
        "compile": "never",
        "threads": 1,
        "loader_threads": 2,
    },
}


def prepare(project: Path) -> Path:
    """A project whose training is due."""
    project.mkdir()
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    change(project, **SMALL)
    for name in ("ingest", "augment"):
        ended = Forked(project, functools.partial(stage, name)).ended()
        assert ended.status == 0, ended.words
    return project


def change(project: Path, **sections: Any) -> None:
    """Change params: a section with a name of a part is replaced, of any other the options that are given."""
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for name, options in sections.items():
        whole = not isinstance(options, dict) or "name" in options
        params[name] = options if whole else params[name] | options
    text = yaml.safe_dump(params, sort_keys=False)
    parse(Params, text)
    path.write_text(text)


def train(project: Path, **variables: str) -> Forked:
    """The stage `train` at work."""
    return Forked(project, functools.partial(stage, "train"), **variables)


def dying(project: Path, point: TrainingPoint, time: int = 1) -> Forked:
    """The stage `train` at work, until its process kills itself where it comes to a point that many times."""
    return train(project, **{VARIABLE: f"{point.value}:{time}"})


def die(project: Path, point: TrainingPoint, time: int = 1) -> str:
    """Let it die there; what it said."""
    ended = dying(project, point, time).ended()
    assert ended.status == -9, f"{point.name} was not passed {time} times: {ended.words}"
    return ended.words


def finish(project: Path, **variables: str) -> str:
    """Train to the end; what it said."""
    ended: Ended = train(project, **variables).ended()
    assert ended.status == 0, ended.words
    return ended.words


def copy(project: Path, to: Path) -> Path:
    """The same project elsewhere."""
    shutil.copytree(project, to)
    return to


def folder(project: Path) -> Path:
    """Of its one training."""
    (found,) = (path for path in (project / ".convoy/train").iterdir() if path.is_dir())
    return found


def outputs(project: Path) -> dict[str, str]:
    """Digests of all that the stage writes."""
    notes = {path.name: sha256_of(path) for path in sorted((project / "out/training").iterdir())}
    return {"model": digest_of(project / "out/model"), **notes}


def learnt(project: Path) -> list[tuple[int, list[int]]]:
    """Steps, and what each learnt from."""
    return [(record.step, record.views.tolist()) for record in seen.read(folder(project) / seen.SEEN)]


def state(project: Path) -> dict[str, Any]:
    """All that the latest checkpoint holds."""
    held: dict[str, Any] = torch.load(folder(project) / CURRENT, weights_only=True)
    return held


def same(one: Any, other: Any) -> bool:
    """Whether two states are, bit for bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
