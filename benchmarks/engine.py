"""The training engine beside the loops that a user would take otherwise, on the same work.

    /tmp/peers/bin/python benchmarks/engine.py step probe metric frozen --pairs 5    # see benchmarks/peers.txt

step: what surrounds the arithmetic of a step, with logging and checkpoints on, beside Lightning and fastai: the time of
a step less that of a bare loop, all over the same batches, which are ready. probe: the precision, memory format and
compilation that the probe chooses for a ResNet-18, beside each fixed setting and Lightning's bf16-mixed. metric: noting
a metric on the training thread, beside MLflow's client. frozen: an epoch in which the head alone learns, from kept
features, beside one that computes them. The sides take turns in one call.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import nn  # noqa: E402
from turns import machine, ratios, taking_turns  # noqa: E402

from flows.edits import edited  # noqa: E402
from pipeline.augment import stage as augment  # noqa: E402
from pipeline.dataset import Dataset  # noqa: E402
from pipeline.door import parse  # noqa: E402
from pipeline.files import DATASET  # noqa: E402
from pipeline.ingest import stage as ingest  # noqa: E402
from pipeline.journal import Journal  # noqa: E402
from pipeline.params import Params  # noqa: E402
from pipeline.policy import POLICY, Policy  # noqa: E402
from pipeline.train.assembly import Training, assemble  # noqa: E402
from pipeline.train.batches import Batch  # noqa: E402
from pipeline.train.epochs import _finish_steps  # noqa: E402
from pipeline.train.feeding import feed  # noqa: E402
from pipeline.train.machine import Arithmetic, Machine, Pace  # noqa: E402
from pipeline.train.probe import choose  # noqa: E402

SHIPPED = (Path(__file__).resolve().parents[1] / "params.yaml").read_text()
FIXED = (
    "compute={device: cpu, precision: float32, memory_format: contiguous, compile: never, pictures: device, threads: 1}"
)
LR = 0.01


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="+", choices=sorted(TABLES))
    parser.add_argument("--pairs", type=int, default=5, help="rounds of each side (default 5)")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for what in asked.what:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            print(f"{what}: {machine()}", flush=True)
            TABLES[what](asked.pairs)
            print(flush=True)


# --- what surrounds a step


def step(pairs: int) -> None:
    """Microseconds around a step, beyond those of a bare loop."""
    training = prepared(1600, 8, "model={name: convnet, width: 1, depth: 0}", "train.batch_size=1", FIXED)
    machine_, steps, epochs = training.machine, training.batches.steps, 1
    order = np.arange(len(training.train))
    batches = [Batch(*(one.clone() for one in batch[:2]), batch.views) for batch in training.batches.epoch(0, 0, order)]
    training.batches = Ready(batches)  # type: ignore[assignment]

    def per_step(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) / (epochs * steps) * 1e6

    def bare() -> None:
        learner, optimizer = machine_.learner, machine_.optimizer
        learner.train()
        for _ in range(epochs):
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                loss = learner(*learner.prepared(batch.pictures, batch.targets))[0]
                loss.backward()
                optimizer.step()

    def ours() -> None:
        for _ in range(epochs):
            _finish_steps(training)
            progress = training.progress
            progress.epoch, progress.step, progress.losses, progress.norms = progress.epoch + 1, 0, [], []

    sides = {
        "bare loop": lambda: per_step(bare),
        "convoy": lambda: per_step(ours),
        "lightning": lambda: per_step(lightning_of(training, batches, epochs)),
        "fastai": lambda: per_step(fastai_of(training, batches, epochs)),
    }
    for side in sides.values():
        side()  # imports, first allocations
    gc.freeze()  # what three libraries have imported is not to be walked through in anybody's steps
    found = taking_turns(sides, pairs)
    around = {
        name: [each - bare for each, bare in zip(times, found["bare loop"], strict=True)]
        for name, times in found.items()
        if name != "bare loop"
    }
    print(f"a step of the bare loop: {statistics.median(found['bare loop']):.0f} us")
    for name, times in around.items():
        print(f"{name:<10} around it: {statistics.median(times):7.0f} us ({min(times):.0f} to {max(times):.0f})")
    for peer in ("lightning", "fastai"):
        print(f"convoy / {peer}: {ratios(around, 'convoy', peer)}")
    training.close()


class Ready:
    """Batches that are ready: the input path is measured by itself."""

    def __init__(self, batches: list[Batch]) -> None:
        self.steps = len(batches)
        self._batches = batches

    def epoch(self, epoch: int, first: int, order: np.ndarray) -> Iterator[Batch]:
        """See `TrainingBatches.epoch`."""
        yield from self._batches[first:]

    def close(self) -> None:
        """Nothing is open."""


def lightning_of(training: Training, batches: list[Batch], epochs: int) -> Callable[[], object]:
    """The same steps in Lightning's Trainer, with its usual logger and checkpoints."""
    import lightning.pytorch as lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.learner = training.machine.learner

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            loss: torch.Tensor = self.learner(*self.learner.prepared(*batch))[0]
            self.log("train/loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return training.machine.optimizer

    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=".",
    )
    module = Module()
    pairs = [(batch.pictures, batch.targets) for batch in batches]
    return lambda: trainer.fit(module, _Stream(lambda: iter(pairs)))


def fastai_of(training: Training, batches: list[Batch], epochs: int) -> Callable[[], object]:
    """The same steps in fastai's Learner, with a logger of every step and a checkpoint an epoch."""
    from fastai.callback.progress import CSVLogger, ProgressCallback
    from fastai.callback.tracker import SaveModelCallback
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner as Theirs
    from fastai.optimizer import OptimWrapper

    learner = training.machine.learner

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = learner.network

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.network(learner.normalise(pictures))
            return answer

    pairs = [(batch.pictures, batch.targets) for batch in batches]
    loaders = DataLoaders(_Listed(pairs), _Listed(pairs[:1]), device=torch.device("cpu"))
    theirs = Theirs(
        loaders,
        Network(),
        loss_func=learner.loss,
        opt_func=lambda groups, lr: OptimWrapper(groups, torch.optim.AdamW, lr=lr),
        lr=LR,
        cbs=[CSVLogger(), SaveModelCallback(monitor="train_loss", every_epoch=True)],
    )
    theirs.remove_cb(ProgressCallback)
    return lambda: _quietly(lambda: theirs.fit(epochs))


class _Listed(list):  # type: ignore[type-arg]
    """Batches that are ready, as fastai takes a loader."""

    bs, n_inp = 8, 1
    dataset: tuple[int, ...] = ()

    def to(self, device: torch.device) -> _Listed:
        return self


def _quietly(work: Callable[[], object]) -> None:
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        work()


# --- how a step is computed


def probe(pairs: int) -> None:
    """Seconds of a step of a ResNet-18 on 32 pictures of 128 px: as chosen, in each fixed setting, in Lightning."""
    training = prepared(
        64, 128, "model={name: torchvision, architecture: resnet18}", "train.batch_size=32", "train.epochs=100", FIXED
    )
    batch = Batch(*(one.clone() for one in next(iter(training.batches.epoch(0, 0, np.arange(64))))[:2]))
    os.environ["XDG_CACHE_HOME"] = str(Path.cwd())
    left = training.params.model_copy(
        update={"compute": parse(Params, edited(SHIPPED, ["compute.device=cpu"])).compute}
    )
    start = time.perf_counter()
    chosen = choose(left, training.machine.learner, batch, training.machine.device, steps=10_000)
    spent = time.perf_counter() - start

    def timed(arithmetic: Arithmetic) -> Callable[[], float]:
        import copy

        learner = copy.deepcopy(training.machine.learner)
        rival = Machine.assemble(training.params, learner, training.machine.device, arithmetic, 1)
        rival.learn()
        rival.set_pace(Pace(LR))
        rival.step(batch, 0, 0)

        def three() -> float:
            start = time.perf_counter()
            for number in range(3):
                rival.step(batch, number, number)
            return (time.perf_counter() - start) / 3

        return three

    fixed = {
        " ".join(each): timed(each)
        for each in [
            *(Arithmetic(precision, layout) for precision in ("float32", "bfloat16") for layout in LAYOUTS),
            *(Arithmetic(precision, "channels_last", "compiled") for precision in ("float32", "bfloat16")),
        ]
    }
    sides = {"chosen": timed(chosen), **fixed, "lightning bf16-mixed": lightning_mixed(training, batch)}
    sides["lightning bf16-mixed"]()
    found = taking_turns(sides, pairs)
    print(f"the probe took {spent:.1f} s and chose: {' '.join(chosen)}")
    for name, times in found.items():
        print(f"{name:<40}{1000 * statistics.median(times):8.0f} ms a step")
    best = min(fixed, key=lambda name: statistics.median(found[name]))
    print(f"speed of the chosen over the best fixed, {best}: {ratios(found, best, 'chosen')}")
    print(f"speed of the chosen over Lightning bf16-mixed: {ratios(found, 'lightning bf16-mixed', 'chosen')}")
    training.close()


LAYOUTS = ("contiguous", "channels_last")


def lightning_mixed(training: Training, batch: Batch) -> Callable[[], float]:
    """Seconds of a step of the same network in Lightning, precision `bf16-mixed`, from its own loop."""
    import copy

    import lightning.pytorch as lightning

    learner = copy.deepcopy(training.machine.learner)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.learner = learner

        def training_step(self, given: Any, index: int) -> torch.Tensor:
            loss: torch.Tensor = self.learner(*self.learner.prepared(*given))[0]
            return loss

        def configure_optimizers(self) -> Any:
            return training.params.optimizer.build([{"params": list(self.learner.parameters())}])

    module = Module()

    def three() -> float:
        trainer = lightning.Trainer(
            accelerator="cpu",
            precision="bf16-mixed",
            max_steps=4,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        moments: list[float] = []

        def given() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for _ in range(5):
                moments.append(time.perf_counter())
                yield batch.pictures, batch.targets

        trainer.fit(module, _Stream(given))
        return (moments[4] - moments[1]) / 3

    return three


class _Stream:
    def __init__(self, given: Callable[[], Iterator[Any]]) -> None:
        self._given = given

    def __iter__(self) -> Iterator[Any]:
        return self._given()


# --- what is noted


def metric(pairs: int) -> None:
    """Milliseconds of the training thread for each metric that is noted."""
    from mlflow import MlflowClient

    client = MlflowClient("sqlite:///mlflow.db")
    run = client.create_run(client.create_experiment("notes")).info.run_id
    journal, at = Journal(Path("journal")), iter(range(10**9))

    def ours() -> float:
        start = time.perf_counter()
        for _ in range(1000):
            journal.append("step", next(at), {"train/loss": 0.5, "train/learning_rate": 0.1})
        journal.flush()
        return (time.perf_counter() - start) / 2000 * 1000

    def theirs(count: int, synchronous: bool) -> float:
        start = time.perf_counter()
        asked = [client.log_metric(run, "loss", 0.5, step=next(at), synchronous=synchronous) for _ in range(count)]
        spent = time.perf_counter() - start
        for one in asked:
            if one is not None:
                one.wait()  # what the queue holds; it is not counted
        return spent / count * 1000

    sides = {"convoy": ours, "mlflow": lambda: theirs(20, True), "mlflow's queue": lambda: theirs(200, False)}
    for side in sides.values():
        side()
    found = taking_turns(sides, pairs)
    for name, times in found.items():
        print(f"{name:<16}{statistics.median(times):9.4f} ms a metric ({min(times):.4f} to {max(times):.4f})")
    for peer in ("mlflow", "mlflow's queue"):
        print(f"{peer} / convoy: {ratios(found, peer, 'convoy')}")
    journal.close()


# --- the head alone


def frozen(pairs: int) -> None:
    """Seconds of an epoch, validation included, in which the head of a ResNet-18 alone learns."""
    model = "model={name: torchvision, architecture: resnet18}"
    changes = (model, "train.batch_size=32", "layers.frozen_epochs=1000", "train.epochs=1000", "optimizer.lr=0.003")
    trainings = {name: prepared(600, 96, *changes, FIXED) for name in ("kept", "computed")}
    trainings["computed"].unkept = "not wanted"

    def an_epoch(training: Training) -> Callable[[], float]:
        def timed() -> float:
            start = time.perf_counter()
            _finish_steps(training)
            worth = training.validated()
            spent = time.perf_counter() - start
            progress = training.progress
            progress.epoch, progress.step, progress.losses, progress.norms = progress.epoch + 1, 0, [], []
            scores.setdefault(id(training), []).append(worth.score)
            return spent

        return timed

    scores: dict[int, list[float]] = {}
    sides = {name: an_epoch(training) for name, training in trainings.items()}
    for training in trainings.values():
        training.machine.enter(0)
        feed(training)
    for side in sides.values():
        side()  # the first epoch
    found = taking_turns(sides, pairs)
    for name, training in trainings.items():
        print(f"{name:<10}{statistics.median(found[name]):9.4f} s an epoch; accuracy {scores[id(training)][-1]:.4f}")
        training.close()
    print(f"computed / kept: {ratios(found, 'computed', 'kept')}")


# --- the work


def prepared(count: int, size: int, *changes: str) -> Training:
    """A training in this folder, on so many made-up pictures of two classes that a little contrast tells apart."""
    random, source = np.random.default_rng(0), Path("pictures")
    for number in range(0 if source.exists() else count):
        name = ("dull", "lively")[number % 2]
        pixels = np.clip(random.normal(128, 12 + 6 * (number % 2), (size, size, 3)), 0, 255).astype(np.uint8)
        (source / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(source / name / f"{number:05d}.png")
    common = ("data={name: folder, path: pictures}", f"augment={{name: none, size: {size}}}")
    params = parse(Params, edited(SHIPPED, [*common, *changes]))
    if not DATASET.exists():
        _quietly(lambda: ingest.run(params, DATASET))
        POLICY.parent.mkdir(parents=True)
        _quietly(lambda: augment.run(params, Dataset.open(), POLICY.parent))
    return assemble(params, Dataset.open(), Policy.open())


TABLES: dict[str, Callable[[int], None]] = {"step": step, "probe": probe, "metric": metric, "frozen": frozen}

if __name__ == "__main__":
    main()
