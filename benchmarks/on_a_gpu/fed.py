"""A ResNet-50 that is fed with photographs by four cores, beside the same steps on one batch that lies there."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from bench import Bench, Found
from cifar import prepare
from first_epoch import gathered
from made_up import SHIPPED, next_epoch, quietly
from turns import ratios, taking_turns

from flows.edits import edited
from pipeline.dataset import Dataset
from pipeline.door import parse
from pipeline.packed import cache
from pipeline.params import Params
from pipeline.policy import Policy
from pipeline.train.assembly import Training, assemble
from pipeline.train.batches import Batch, Material
from pipeline.train.epochs import _finish_steps
from pipeline.train.machine import Pace

CORES = 4
"""For reading, decoding and varying pictures, and all that Python does."""
RATE = 1e-4


def fed(bench: Bench) -> Iterator[Found]:
    """Images a second of steps alone, and fed: from the packed cache, from the device, the first epoch from JPEG."""
    count, batch, side = bench.size((2100, 256, 224), (24, 4, 32))
    gathered(None, count, Path("pictures"))
    architecture = bench.size("resnet50", "shufflenet_v2_x0_5")

    def params(pictures: str) -> Params:
        changes = (
            "data={name: folder, path: pictures}",
            "split={val: 0.02, test: 0.02}",
            f"augment={{name: standard, size: {side}}}",
            f"model={{name: torchvision, architecture: {architecture}}}",
            f"train.batch_size={batch}",
            "train.epochs=1000",
            "compute={precision: bfloat16, memory_format: channels_last, compile: never}",
            *bench.where,
            f"compute.pictures={pictures}",
            f"compute.loader_threads={CORES}",
        )
        return parse(Params, edited(SHIPPED, list(changes)))

    prepare(params("host"))
    with few_cores(), contextlib.ExitStack() as stack:
        packing = _packing(params("host"))
        trainings: dict[str, Training] = {}
        for name, pictures in (("from the packed cache", "host"), ("from the device", "device")):
            trainings[name] = assemble(params(pictures), Dataset.open(), Policy.open())
            stack.callback(trainings[name].close)
        sides = {name: _epoch(bench, training) for name, training in trainings.items()}
        sides["steps alone"] = _steps(bench, trainings["from the device"])
        for turn in sides.values():
            turn()
        found = taking_turns(sides, bench.pairs)
    images = trainings["from the device"].batches.steps * batch
    for name, times in found.items():
        yield {"side": name, "images/s": images / statistics.median(times), "cores": CORES}
        if name != "steps alone":
            yield {"what": f"{name} / steps alone", "share": ratios(found, "steps alone", name)}
    first = [packing + seconds for seconds in found["from the packed cache"]]
    yield {
        "side": "first epoch, from JPEG",
        "images/s": images / statistics.median(first),
        "seconds of packing": packing,
        "share": statistics.median(found["steps alone"]) / statistics.median(first),
    }


@contextlib.contextmanager
def few_cores() -> Iterator[None]:
    """This process has so many cores, and no more."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:CORES])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _packing(params: Params) -> float:
    """Seconds in which the training split is decoded and packed, before its first epoch."""
    policy, split = Policy.open(), Dataset.open().split("train")
    for path in cache().glob("*.npy"):
        path.unlink()
    start = time.perf_counter()
    quietly(lambda: Material.of(split, policy.frame, policy.packed))
    return time.perf_counter() - start


def _epoch(bench: Bench, training: Training) -> Callable[[], float]:
    """The steps of an epoch as the stage takes them."""

    def turn() -> float:
        start = time.perf_counter()
        _finish_steps(training)
        bench.wait()
        seconds = time.perf_counter() - start
        next_epoch(training)
        return seconds

    return turn


def _steps(bench: Bench, training: Training) -> Callable[[], float]:
    """As many steps on one batch."""
    order = np.arange(len(training.train))
    batch = Batch(*(one.clone() for one in next(training.batches.epoch(0, 0, order))[:2]))
    machine = training.machine

    def turn() -> float:
        machine.learn()
        bench.wait()
        start = time.perf_counter()
        for _ in range(training.batches.steps):
            machine.step(batch, Pace(RATE))
        bench.wait()
        return time.perf_counter() - start

    return turn
