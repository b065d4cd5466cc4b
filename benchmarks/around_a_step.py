"""What surrounds the arithmetic of a step, with logging and checkpoints on: Convoy's engine, Lightning and fastai.

    /tmp/peers/bin/python benchmarks/around_a_step.py --pairs 11    # see benchmarks/peers.txt

Each engine has a process of its own, as it has when it is used, and there takes turns with a bare loop: the time of its
step less that of the bare loop's is what it adds. All learn with the same tiny network and the same optimizer, from the
same batches, which are ready. The processes take turns too.
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from made_up import FIXED, Stream, next_epoch, prepared, quietly  # noqa: E402
from torch import nn  # noqa: E402
from turns import machine, ratios, taking_turns  # noqa: E402

from pipeline.train.assembly import Training  # noqa: E402
from pipeline.train.batches import Batch  # noqa: E402
from pipeline.train.epochs import _finish_steps  # noqa: E402

STEPS = 1600
"""Of an epoch, each of one picture of 8 pixels a side."""
LR = 0.01


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=11, help="rounds of each engine (default 11)")
    pairs = parser.parse_args().pairs
    print(machine(), flush=True)
    spawn = multiprocessing.get_context("spawn")
    asked: dict[str, Connection] = {}
    for name in ENGINES:
        asked[name], theirs = spawn.Pipe()
        spawn.Process(target=engine, args=(name, theirs), daemon=True).start()
        asked[name].recv()  # it is ready
    bare: dict[str, list[float]] = {name: [] for name in ENGINES}

    def added(name: str) -> float:
        asked[name].send(True)
        alone, whole = asked[name].recv()
        bare[name].append(alone)
        return float(whole - alone)

    found = taking_turns({name: partial(added, name) for name in ENGINES}, pairs)
    for name, times in found.items():
        print(
            f"{name:<10} adds {statistics.median(times):6.0f} us ({min(times):.0f} to {max(times):.0f}) "
            f"to the {statistics.median(bare[name]):.0f} of a bare loop"
        )
    for peer in list(ENGINES)[1:]:
        print(f"convoy / {peer}: {ratios(found, 'convoy', peer)}")


def engine(name: str, asked: Connection) -> None:
    """Whenever asked, send the microseconds of a step of the bare loop and of this engine."""
    warnings.simplefilter("ignore")
    for noisy in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        training = prepared(STEPS, 8, "model={name: convnet, width: 1, depth: 0}", "train.batch_size=1", FIXED)
        order = np.arange(STEPS)
        batches = [Batch(each[0].clone(), each[1].clone(), each.views) for each in training.batches.epoch(0, 0, order)]
        training.batches = Ready(batches)  # type: ignore[assignment]
        works = {"bare": partial(bare_loop, training, batches), "engine": ENGINES[name](training, batches)}
        for work in works.values():
            work()  # imports, first allocations
        gc.collect()
        gc.freeze()  # as the stage does; what others import is not to be walked through in anybody's steps
        asked.send(True)
        while asked.recv():
            found = taking_turns({side: partial(per_step, work) for side, work in works.items()}, 2)
            asked.send((statistics.fmean(found["bare"]), statistics.fmean(found["engine"])))


def per_step(work: Callable[[], object]) -> float:
    """Microseconds of each of the steps of an epoch."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) / STEPS * 1e6


def bare_loop(training: Training, batches: list[Batch]) -> None:
    """An epoch in the fewest lines."""
    learner, optimizer = training.machine.learner, training.machine.optimizer
    learner.train()
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        loss = learner(*learner.prepared(batch.pictures, batch.targets))[0]
        loss.backward()
        optimizer.step()


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


def convoy(training: Training, batches: list[Batch]) -> Callable[[], None]:
    """An epoch as the stage takes it."""

    def epoch() -> None:
        _finish_steps(training)
        next_epoch(training)

    return epoch


def lightning(training: Training, batches: list[Batch]) -> Callable[[], object]:
    """The same steps in Lightning's Trainer, with its usual logger and checkpoints."""
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.learner = training.machine.learner

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            loss: torch.Tensor = self.learner(*self.learner.prepared(*batch))[0]
            self.log("train/loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return training.machine.optimizer

    def epoch() -> None:
        trainer = pl.Trainer(
            accelerator="gpu" if training.machine.device.type == "cuda" else "cpu",
            devices=1,
            max_epochs=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=".",
        )
        trainer.fit(module, Stream(lambda: iter(pairs)))
        training.machine.learner.to(training.machine.device)  # Lightning leaves it on the processor

    module = Module()
    pairs = [(batch.pictures, batch.targets) for batch in batches]
    return epoch


def fastai(training: Training, batches: list[Batch]) -> Callable[[], object]:
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
    loaders = DataLoaders(Listed(pairs), Listed(pairs[:1]), device=torch.device("cpu"))
    theirs = Theirs(
        loaders,
        Network(),
        loss_func=learner.loss,
        opt_func=lambda groups, lr: OptimWrapper(opt=training.machine.optimizer),
        lr=LR,
        cbs=[CSVLogger(), SaveModelCallback(monitor="train_loss", every_epoch=True)],
    )
    theirs.remove_cb(ProgressCallback)
    return lambda: quietly(lambda: theirs.fit(1))


class Listed(list):  # type: ignore[type-arg]
    """Batches that are ready, as fastai takes a loader."""

    bs, n_inp = 8, 1
    dataset: tuple[int, ...] = ()

    def to(self, device: torch.device) -> Listed:
        return self


ENGINES: dict[str, Callable[[Training, list[Batch]], Callable[[], object]]] = {
    "convoy": convoy,
    "lightning": lightning,
    "fastai": fastai,
}

if __name__ == "__main__":
    main()
