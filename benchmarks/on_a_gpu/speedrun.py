"""`params/cifar10-speedrun.yaml` from params alone, through the stages: accuracy on test, and seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import torch
from answers import accuracy
from bench import Bench, Found
from cifar import described, prepare, seconds_of_epochs
from made_up import quietly
from safetensors.torch import load_file

from pipeline.bundle import BUNDLE, Bundle
from pipeline.dataset import Dataset
from pipeline.evaluate import stage as evaluate
from pipeline.params import Params
from pipeline.policy import Policy
from pipeline.train import stage as train
from pipeline.train.batches import Material, steps_per_epoch
from pipeline.train.learner import build_learner
from pipeline.train.outputs import NOTES

BELOW = (0.0, 0.5, 0.7, 0.75, 0.8, 1.0)
"""Values of `task.unsure_below`: no picture is looked at again, some, all."""


def speedrun(bench: Bench) -> Iterator[Found]:
    """One training for each seed, first as it is and then compiled, whose first one compiles."""
    few = bench.size((), ("train.epochs=2", "train.batch_size=50", "model={name: airbench, widths: [4, 8]}"))
    params_with = described(bench, "cifar10-speedrun", *few)
    start = time.perf_counter()
    prepare(params_with())
    yield {"what": "ingest, augment", "seconds": time.perf_counter() - start}
    for compiled, seeds in (("never", bench.size(5, 1)), ("always", bench.size(4, 1))):
        found = []
        for seed in range(seeds):
            params = params_with(f"seed={seed}", f"compute.compile={compiled}")
            found.append(_trained(params, bench) | {"compile": compiled, "seed": seed})
            yield found[-1]
        late = found[1:] or found  # of the first one kernels are loaded, or compiled
        yield {
            "compile": compiled,
            "trainings": len(found),
            "accuracy, mean": statistics.fmean(one["accuracy"] for one in found),
            "seconds of steps, median": statistics.median(one["seconds of steps"] for one in late),
        }
    yield _evaluated(params_with())


def _trained(params: Params, bench: Bench) -> Found:
    """The stage `train`; seconds of its steps, in which losses are noted and checkpoints written, and of all of it."""
    dataset, policy = Dataset.open(), Policy.open()
    start = time.perf_counter()
    quietly(lambda: train.run(params, dataset, policy, BUNDLE, NOTES))
    seconds = time.perf_counter() - start
    size = params.train.batch_size
    images = steps_per_epoch(len(dataset.split("train")), size) * min(size, len(dataset.split("train")))
    epochs = seconds_of_epochs(images)
    return {
        "seconds of steps": sum(epochs),
        "of its first epoch": epochs[0],
        "seconds of the stage": seconds,
        **_looked_at(params, dataset, policy, bench),
    }


def _looked_at(params: Params, dataset: Dataset, policy: Policy, bench: Bench) -> Found:
    """Accuracy on test of the weights that were kept, by how sure an answer must be not to be asked again."""
    learner = build_learner(params, dataset, policy)
    learner.network.load_state_dict(load_file(BUNDLE / "weights.safetensors"))
    learner.to(bench.device).eval()
    test = Material.of(dataset.split("test"), policy.frame, policy.plain)
    preset, found = learner.network.below, {}
    for below in (*BELOW, preset):
        learner.network.below = below  # type: ignore[assignment]
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            found[below] = accuracy(lambda *batch: learner.validate(*batch)[1], [test], policy, bench.device)
    return {"accuracy": found[preset], "accuracy by unsure_below": found}


def _evaluated(params: Params) -> Found:
    """What the stage `evaluate` says of the last model, and how long it takes."""
    start = time.perf_counter()
    figure = evaluate.run(params, Dataset.open(), Bundle.open(), evaluate.EVALUATION)[0]
    return {
        "what": "evaluate",
        "accuracy": figure.interval.value,
        "low": figure.interval.low,
        "high": figure.interval.high,
        "seconds": time.perf_counter() - start,
    }
