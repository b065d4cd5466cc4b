"""Several processes train together: the same samples, the same weights; killed or stopped, they go on with others."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from engine_project import SHIPPED, SMALL, begun, params_of, prepare
from forked import Ended, Forked, stage
from safetensors.torch import load_file
from together import begun_together
from torch.distributed.elastic.multiprocessing.api import RunProcsResult
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from flows.edits import edited
from pipeline.__main__ import EXIT_DEFECT
from pipeline.door import parse
from pipeline.errors import UserError
from pipeline.failpoints import TrainingPoint
from pipeline.journal import read as read_journal
from pipeline.params import Params
from pipeline.train.orders import epoch_order
from pipeline.train.processes.fitting import device_of
from pipeline.train.processes.launch import _reason
from pipeline.train.processes.place import Place
from pipeline.train.processes.ranks import Ranks
from pipeline.train.seen import read
from pipeline.train_options import ComputeOptions
from pipeline.training import Known

PLAIN = (
    "model={name: lenet5}",
    "augment={name: light, size: 32}",
    "optimizer={name: sgd, lr: 0.05}",
    "average={name: ema}",
    "train.accumulation=2",
    "train.clip_norm=0.5",
    "loss={name: cross_entropy, class_weights: [1, 4]}",
)
"""A network in which no picture sees the others of its batch, and all else that a step can do."""
SHARDED = "compute.sharded shares tensors out among the processes, but "


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
        begun = begun_together(self.folder, functools.partial(stage, "train"), count, **variables)
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
    learnt = ("model={name: convnet, width: 8}", "optimizer={name: adamw, lr: 0.001}")
    changes = (*learnt, "train.recompute=true", "layers.rate_decay=0.9")
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


def runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


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
        while any(runs(one) for one in theirs):
            assert time.monotonic() - began < 240
            time.sleep(0.05)
        return ended

    for rank in (0, 1):
        ended = after_some_steps(lambda stage, ranks, rank=rank: os.kill(ranks[rank], signal.SIGKILL))
        assert ended.status == EXIT_DEFECT
        assert f"train: process {rank + 1} of 2 ended by signal SIGKILL" in ended.words
        assert "Traceback" not in ended.words
    ended = after_some_steps(lambda stage, ranks: os.kill(stage, signal.SIGINT))
    assert ended.status == 130
    assert {line.partition(" ")[0] for line in ended.words.splitlines()} == {"train:"}  # and no warning of torch
    assert ended.words.count("a checkpoint is kept, and the next run goes on from there.") == 1
    done = scene.steps()
    ended = after_some_steps(lambda stage, ranks: os.kill(stage, signal.SIGKILL))
    assert ended.status == -signal.SIGKILL
    assert scene.steps() > done
    done = scene.steps()
    (ended,) = scene.ranks(1, CONVOY_FAIL_POINT=f"{TrainingPoint.CHECKPOINT_NAMED.value}:9")
    assert "train: processes: 2 then, 1 now; that may change in between" in ended.words
    assert scene.steps() > done
    params = parse(Params, (scene.folder / "params.yaml").read_text())
    known = Known(40, None, lambda name: np.empty(0))
    orders = (epoch_order(params.order, params.seed, epoch, 300, known) for epoch in range(300))
    expected = [order[start : start + 8].tolist() for order in orders for start in range(0, 40, 8)]
    seen = scene.seen()
    assert len(seen) >= done
    assert seen == expected[: len(seen)]


@pytest.mark.parametrize(
    ("batch", "count", "set_"),
    [
        (8, 3, "compute.processes to 1 or 2, or train.batch_size to 6"),
        (64, 500, "compute.processes to 16 or 32 or 64"),
        (7, 4, "compute.processes to 1, or train.batch_size to 4"),
    ],
)
def test_a_batch_that_has_no_equal_parts_is_refused_at_the_door(tmp_path, batch, count, set_) -> None:
    with pytest.raises(UserError) as error:
        params_of(tmp_path, f"compute.processes={count}", f"train.batch_size={batch}")
    assert str(error.value).splitlines() == [
        "params.yaml: 1 problem",
        f"  the parts together: compute.processes is {count}, but train.batch_size is {batch}, which has no {count} "
        f"equal parts; set {set_}.",
    ]


def test_fewer_pictures_than_a_batch_may_have_no_equal_parts_either() -> None:
    for pictures, remedy in ((40, "train.batch_size to 39, or compute.processes"), (2, "compute.processes")):
        with pytest.raises(UserError) as error:
            Ranks(0, 3).share(pictures)
        assert str(error.value).splitlines() == [
            f"params.yaml: 3 processes cannot share a batch of {pictures} pictures evenly.",
            f"Set {remedy} to a number that divides {pictures}.",
        ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["train.accumulation=5"], "train.accumulation is 5, but 4 pictures of a batch fall to each of 2 processes"),
        (["train.when_out_of_memory=halve"], "train.when_out_of_memory 'halve' works in one process: "),
        (
            ["compute.sharded=true", "order={name: curriculum}"],
            f"{SHARDED}order 'curriculum' asks the network in between",
        ),
        (["compute.sharded=true", "layers.frozen_epochs=1"], f"{SHARDED}layers that rest at first stay as they are"),
        (["compute.sharded=true", "compute.precision=float16"], f"{SHARDED}float16 needs to know every gradient"),
        (["compute.sharded=true", "compute.compile=always"], f"{SHARDED}the compiler takes whole tensors"),
    ],
)
def test_what_several_processes_cannot_do_is_refused_at_the_door(tmp_path, changes, words) -> None:
    with pytest.raises(UserError) as error:
        params_of(tmp_path, "compute.processes=2", begun(tmp_path), *changes)
    first, line = str(error.value).splitlines()
    assert first == "params.yaml: 1 problem"
    assert line.startswith(f"  the parts together: {words}")
    params_of(tmp_path, begun(tmp_path), *(change for change in changes if not change.startswith("compute.sharded")))


def test_each_process_has_a_gpu_of_its_own_or_all_have_the_processor() -> None:
    assert device_of(ComputeOptions(processes=2, device="cpu"), Place(1, 2)) == "cpu"
    for wanted in ("cuda", "cuda:1"):
        with pytest.raises(UserError, match=r"2 processes need a GPU each.*\nSet compute.processes to at most"):
            device_of(ComputeOptions(processes=2, device=wanted), Place(1, 2))


def test_shares_of_a_batch_are_equal_and_in_order() -> None:
    assert [Ranks(rank, 4).share(8) for rank in range(4)] == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)]
    assert Ranks().share(7) == slice(0, 7)


def test_each_process_answers_as_many_batches_as_the_others() -> None:
    dealt = [list(Ranks(rank, 3).dealt("abcd")) for rank in range(3)]
    assert dealt == [[("a", True), ("d", True)], [("b", True), ("d", False)], [("c", True), ("d", False)]]


@pytest.mark.parametrize(
    ("failures", "status", "words"),
    [
        # What another one's end leads to is not why they end.
        ({0: (75, "Connection closed by peer"), 1: (1, "no room")}, 1, "no room"),
        ({1: (-9, ""), 0: (75, "Connection closed by peer")}, 70, "process 2 of 2 ended by signal SIGKILL (the system"),
        ({1: (-9, ""), 0: (-9, "")}, 70, "process 2 of 2 ended"),
        ({0: (-15, ""), 1: (-11, "")}, 70, "process 2 of 2 ended by signal SIGSEGV; the others were stopped."),
        ({0: (70, "Traceback"), 1: (-6, "")}, 70, "Traceback"),
        ({0: (130, "a checkpoint is kept"), 1: (130, "a checkpoint is kept")}, 130, "a checkpoint is kept"),
        ({0: (70, "gloo: Timed out waiting 600000ms")}, 70, "process 1 of 2 has waited for another, which is stuck"),
    ],
)
def test_of_several_ends_the_first_cause_is_told(tmp_path, failures, status, words) -> None:
    seen = {}
    for rank, (code, said) in failures.items():
        file = tmp_path / str(rank)
        if said:
            file.write_text(json.dumps({"message": said, "timestamp": 0}))
        seen[rank] = ProcessFailure(local_rank=rank, pid=1, exitcode=code, error_file=str(file))
    reason = _reason("train", 2, RunProcsResult(failures=seen))
    assert reason.status == status
    assert words in str(reason)
