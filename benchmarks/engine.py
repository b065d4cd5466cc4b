"""The training engine beside the loops that a user would take otherwise, on the same work.

    /tmp/peers/bin/python benchmarks/engine.py probe metric frozen optimizers --pairs 5    # see benchmarks/peers.txt

probe: the precision, memory format and compilation that the probe chooses for a ResNet-18, beside each fixed setting
and Lightning's bf16-mixed with torch's AdamW as it comes. metric: noting a metric on the training thread, beside
MLflow's client. frozen: an epoch in which the head alone learns, from kept features, beside one that computes them.
optimizers: moving the weights of a ResNet-18, beside torch's optimizers as they come. The sides take turns in one call.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from lightning_loop import steps_of_lightning  # noqa: E402
from made_up import FIXED, SHIPPED, next_epoch, prepared  # noqa: E402
from moving import rivals  # noqa: E402
from turns import machine, ratios, taking_turns  # noqa: E402

from flows.edits import edited  # noqa: E402
from pipeline.door import parse  # noqa: E402
from pipeline.files import sha256_of  # noqa: E402
from pipeline.journal import Journal  # noqa: E402
from pipeline.params import Params  # noqa: E402
from pipeline.plugin import config_class  # noqa: E402
from pipeline.train.assembly import Training  # noqa: E402
from pipeline.train.batches import Batch  # noqa: E402
from pipeline.train.epochs import _finish_steps  # noqa: E402
from pipeline.train.feeding import feed  # noqa: E402
from pipeline.train.machine import Arithmetic, Machine, Pace  # noqa: E402
from pipeline.train.probe import choose  # noqa: E402

LR = 0.01


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="+", choices=sorted(TABLES))
    parser.add_argument("--pairs", type=int, default=5, help="rounds of each side (default 5)")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    for what in asked.what:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            print(f"{what}: {machine()}", flush=True)
            TABLES[what](asked.pairs)
            print(flush=True)


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
        learner = copy.deepcopy(training.machine.learner)
        rival = Machine.assemble(training.params, learner, training.machine.device, arithmetic, 1)
        rival.learn()
        rival.step(batch, Pace(LR))

        def three() -> float:
            start = time.perf_counter()
            for number in range(3):
                rival.step(batch, Pace(LR, None, number, number))
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
    learner, options = copy.deepcopy(training.machine.learner), training.params.optimizer

    def loss(given: Any) -> torch.Tensor:
        found: torch.Tensor = learner(*learner.prepared(*given))[0]
        return found

    def optimizer() -> torch.optim.Optimizer:
        return torch.optim.AdamW(learner.parameters(), lr=options.lr, weight_decay=options.weight_decay)

    return steps_of_lightning(learner, loss, optimizer, (batch.pictures, batch.targets), 3)


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
    network, file = config_class("models", "torchvision")(architecture="resnet18").build(3, 2, 96), Path("begun.pth")
    torch.save(network.state_dict(), file)  # layers rest on weights of a file alone, whatever these are
    begun = f"weights: {file}, weights_sha256: '{sha256_of(file)}'"
    model = f"model={{name: torchvision, architecture: resnet18, {begun}}}"
    changes = (model, "train.batch_size=32", "layers.frozen_epochs=1000", "train.epochs=1000", "optimizer.lr=0.003")
    trainings = {name: prepared(600, 96, *changes, FIXED) for name in ("kept", "computed")}
    trainings["computed"].unkept = "not wanted"

    def an_epoch(training: Training) -> Callable[[], float]:
        def timed() -> float:
            start = time.perf_counter()
            _finish_steps(training)
            worth = training.validated()
            spent = time.perf_counter() - start
            next_epoch(training)
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


# --- how weights are moved


def optimizers(pairs: int) -> None:
    """Milliseconds in which the optimizer moves a ResNet-18: as Convoy has it, and as torch has it by itself."""
    import torchvision

    for name, steps in rivals(torchvision.models.resnet18(weights=None)).items():
        found = taking_turns({side: five(step) for side, step in steps.items()}, pairs)
        for side, times in found.items():
            print(f"{name:<8}{side:<14}{1000 * statistics.median(times):8.1f} ms")
        for side in list(found)[1:]:
            print(f"{side} / convoy: {ratios(found, side, 'convoy')}")


def five(step: Callable[[], object]) -> Callable[[], float]:
    """Seconds of each of five steps, whenever it is asked for."""
    step()

    def turn() -> float:
        start = time.perf_counter()
        for _ in range(5):
            step()
        return (time.perf_counter() - start) / 5

    return turn


TABLES: dict[str, Callable[[int], None]] = {
    "probe": probe,
    "metric": metric,
    "frozen": frozen,
    "optimizers": optimizers,
}

if __name__ == "__main__":
    main()
