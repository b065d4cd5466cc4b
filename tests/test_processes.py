"""Several processes train together: the same samples, the same weights; killed or stopped, they go on with others."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from engine_project import SHIPPED, SMALL, prepare
from forked import Ended, Forked, stage
from safetensors.torch import load_file

from flows.edits import edited
from pipeline.__main__ import EXIT_DEFECT
from pipeline.door import parse
from pipeline.failpoints import TrainingPoint
from pipeline.journal import read as read_journal
from pipeline.params import Params
from pipeline.train.orders import epoch_order
from pipeline.train.seen import read
from pipeline.training import Known

PLAIN = (
    "model={name: lenet5}",
    "augment={name: light, size: 32}",
    "optimizer={name: sgd, lr: 0.05}",
    "average={name: ema}",
    "train.accumulation=2",
    "train.clip_norm=0.5",
)
"""A network in which no picture sees the others of its batch, and all else that a step can do."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose training is due."""
    folder = tmp_path_factory.mktemp("prepared")
    before = Path.cwd()
    os.chdir(folder)
    try:
        prepare(folder, *PLAIN)
    finally:
        os.chdir(before)
    return folder


class Scene:
    """A copy of that folder, to train in."""

    def __init__(self, prepared: Path, folder: Path, *changes: str) -> None:
        self.folder, self._pictures, self._changes = folder, prepared / "pictures", changes
        shutil.copytree(prepared, folder, ignore=shutil.ignore_patterns("pictures"))
        self.write()

    def write(self, *changes: str) -> None:
        source = f"data={{name: folder, path: {self._pictures}}}"
        text = edited(SHIPPED, [source, *SMALL, *PLAIN, *self._changes, *changes])
        (self.folder / "params.yaml").write_text(text)

    def ranks(self, count: int, *changes: str, **variables: str) -> list[Ended]:
        """Train with so many processes that nobody watches."""
        self.write(f"compute.processes={count}", *changes)
        meeting = self.folder / "meeting"
        meeting.unlink(missing_ok=True)
        places = [
            {
                "RANK": str(rank),
                "WORLD_SIZE": str(count),
                "CONVOY_MEETING": str(meeting),
                "TORCHELASTIC_ERROR_FILE": str(self.folder / f"words-{rank}"),
                "GLOO_SOCKET_IFNAME": "lo",
                "TORCH_CPP_LOG_LEVEL": "ERROR",
            }
            for rank in range(count)
        ]
        begun = [
            Forked(self.folder, functools.partial(stage, "train"), **(place if count > 1 else {}), **variables)
            for place in places
        ]
        return [one.ended() for one in begun]

    def trained(self, count: int, *changes: str) -> None:
        """The same, and all went well."""
        for rank, ended in enumerate(self.ranks(count, *changes)):
            words = self.folder / f"words-{rank}"
            assert ended.status == 0, (ended.words, words.exists() and words.read_text())

    def words(self, rank: int) -> str:
        return str(json.loads((self.folder / f"words-{rank}").read_text())["message"])

    def begun(self, count: int, *changes: str) -> Forked:
        """Start the stage, which starts the processes."""
        self.write(f"compute.processes={count}", *changes)
        root = str(Path(__file__).parents[1])
        return Forked(self.folder, functools.partial(stage, "train"), PYTHONPATH=root)

    @property
    def training(self) -> Path:
        (found,) = {path.parent for path in self.folder.glob(".convoy/train/*/journal.jsonl")}
        return found

    def steps(self) -> int:
        found = list(self.folder.glob(".convoy/train/*/journal.jsonl"))
        return sum(row.series == "step" for path in found for row in read_journal(path, 0)[0])

    def seen(self) -> list[list[int]]:
        records = list(read(self.training / "seen.bin"))
        assert [record.step for record in records] == list(range(len(records)))
        return [record.views.tolist() for record in records]

    def weights(self) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = load_file(self.folder / "out/model/weights.safetensors")
        return found

    def table(self, name: str) -> np.ndarray:
        return np.loadtxt(self.folder / f"out/training/{name}.csv", delimiter=",", skiprows=1)


def furthest(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    assert some.keys() == others.keys()
    return max((some[name] - others[name]).abs().max().item() for name in some)


@pytest.fixture(scope="module")
def alone(prepared, tmp_path_factory) -> Scene:
    """Trained by one process."""
    scene = Scene(prepared, tmp_path_factory.mktemp("alone") / "project")
    scene.trained(1)
    return scene


@pytest.mark.slow
@pytest.mark.parametrize(("count", "sharded"), [(2, False), (4, False), (2, True)])
def test_any_number_of_processes_sees_the_same_and_learns_the_same(prepared, alone, tmp_path, count, sharded) -> None:
    scene = Scene(prepared, tmp_path / "project", f"compute.sharded={str(sharded).lower()}")
    scene.trained(count)
    assert scene.seen() == alone.seen()
    assert furthest(scene.weights(), alone.weights()) < 1e-5
    for table in ("steps", "epochs", "gradients"):
        assert np.abs(scene.table(table) - alone.table(table)).max() < 1e-5
    facts = json.loads((scene.folder / "out/training/training.json").read_text())
    assert facts == json.loads((alone.folder / "out/training/training.json").read_text()) | {"processes": count}


@pytest.mark.slow
def test_layers_that_are_put_together_when_needed_learn_what_whole_ones_do(prepared, tmp_path) -> None:
    changes = ("model={name: convnet, width: 8}", "train.recompute=true", "layers.rate_decay=0.9")
    whole, shards = (Scene(prepared, tmp_path / name, *changes) for name in ("whole", "shards"))
    whole.trained(2)
    shards.trained(2, "compute.sharded=true")
    assert furthest(whole.weights(), shards.weights()) < 1e-5
    assert np.abs(whole.table("epochs") - shards.table("epochs")).max() < 1e-5


@pytest.mark.slow
def test_a_checkpoint_of_parts_is_one_of_the_whole(prepared, alone, tmp_path) -> None:
    scene = Scene(prepared, tmp_path / "project", "train.checkpoint_seconds=0")
    first, _ = scene.ranks(2, "compute.sharded=true", CONVOY_FAIL_POINT=f"{TrainingPoint.CHECKPOINT_NAMED.value}:4")
    assert first.status == -signal.SIGKILL
    assert 0 < scene.steps() < 15
    (second,) = scene.ranks(1, CONVOY_FAIL_POINT=f"{TrainingPoint.CHECKPOINT_NAMED.value}:4")
    assert "train: goes on from epoch" in second.words
    assert scene.steps() < 15
    scene.trained(2, "compute.sharded=true")
    assert scene.seen() == alone.seen()
    assert furthest(scene.weights(), alone.weights()) < 1e-5


@pytest.mark.slow
def test_killed_and_started_again_the_same_processes_come_to_the_same_bits(prepared, tmp_path) -> None:
    unharmed, killed = (Scene(prepared, tmp_path / name, "train.checkpoint_seconds=0") for name in ("one", "two"))
    unharmed.trained(3, "train.batch_size=6")
    point = f"{TrainingPoint.CHECKPOINT_NAMED.value}:4"
    first, *others = killed.ranks(3, "train.batch_size=6", CONVOY_FAIL_POINT=point)
    assert first.status == -signal.SIGKILL
    assert all(ended.status == EXIT_DEFECT for ended in others)
    assert 0 < killed.steps() < unharmed.steps()
    killed.trained(3, "train.batch_size=6")
    assert killed.seen() == unharmed.seen()
    assert furthest(killed.weights(), unharmed.weights()) == 0


@pytest.mark.slow
def test_killed_or_stopped_it_goes_on_with_any_number_of_processes(prepared, tmp_path) -> None:
    scene = Scene(prepared, tmp_path / "project", "train.epochs=300", "train.checkpoint_seconds=0")

    def after_some_steps(harm: Callable[[int, list[int]], None]) -> Ended:
        """Start the stage in two processes, harm it or one of them, and let it end; none of them is left."""
        before, stage = scene.steps(), scene.begun(2)
        while scene.steps() <= before:
            assert stage.process.is_alive(), stage.ended().words
            time.sleep(0.05)
        theirs = psutil.Process(stage.process.pid).children()
        assert len(theirs) == 2
        began = time.monotonic()
        harm(stage.process.pid, [one.pid for one in sorted(theirs, key=lambda one: int(one.environ()["RANK"]))])
        ended = stage.ended()
        _, left = psutil.wait_procs(theirs, timeout=20)
        assert not left
        assert time.monotonic() - began < 20
        return ended

    for rank in (0, 1):
        ended = after_some_steps(lambda stage, ranks, rank=rank: os.kill(ranks[rank], signal.SIGKILL))
        assert ended.status == EXIT_DEFECT
        assert f"train: process {rank + 1} of 2 ended by signal SIGKILL" in ended.words
        assert "Traceback" not in ended.words
    ended = after_some_steps(lambda stage, ranks: os.kill(stage, signal.SIGINT))
    assert ended.status == 130
    assert ended.words.count("a checkpoint is kept, and the next run goes on from there.") == 1
    done = scene.steps()
    ended = after_some_steps(lambda stage, ranks: os.kill(stage, signal.SIGKILL))
    assert ended.status == -signal.SIGKILL
    assert scene.steps() > done
    one = Scene.ranks(scene, 1)[0]
    assert "train: processes: 2 then, 1 now; that may change in between" in one.words
    assert one.status == 0, one.words
    params = parse(Params, (scene.folder / "params.yaml").read_text())
    orders = [
        epoch_order(params.order, params.seed, epoch, 300, Known(40, None, lambda name: np.empty(0)))
        for epoch in range(300)
    ]
    assert scene.seen() == [order[start : start + 8].tolist() for order in orders for start in range(0, 40, 8)]
