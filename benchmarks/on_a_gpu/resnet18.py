"""A ResNet-18 for pictures of 32 pixels on CIFAR-10, with one recipe: Convoy from params, Lightning, a plain loop."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from answers import accuracy
from bench import Bench, Found, as_it_comes
from cifar import described, prepare, seconds_of_epochs
from loops import Recipe, lightning_epochs, plain_epochs
from made_up import quietly
from turns import ratios, taking_turns

from pipeline.dataset import Dataset
from pipeline.params import Params
from pipeline.policy import Policy
from pipeline.train.assembly import assemble
from pipeline.train.batches import Material
from pipeline.train.epochs import finish_epochs
from pipeline.train.learner import Learner, build_learner

RECIPE = (
    "split={val: 0.02}",
    "augment={name: shifted, size: 32, shift: 4}",
    "model={name: torchvision, architecture: resnet18, small_pictures: true}",
    "loss={name: cross_entropy}",
    "optimizer={name: sgd, lr: 0.2, weight_decay: 0.0005}",
    "schedule={name: one_cycle}",
)


class Ended(NamedTuple):
    """What a training came to."""

    seconds: list[float]
    """Of the steps of each epoch, with all that surrounds them."""
    whole: float
    """Seconds from its begin to its end; of Convoy validation and probe are among them."""
    accuracy: float
    """On test, of the weights of the last step."""


def resnet18(bench: Bench) -> Iterator[Found]:
    """As many epochs for each side, in turns, with another seed in each."""
    epochs, size = bench.size(8, 1), bench.size(512, 50)
    small = bench.size((), ("model={name: convnet, width: 4}",))
    length = (f"train.epochs={epochs}", f"train.batch_size={size}")
    params_with = described(bench, "classification-cifar", *RECIPE, *length, *small)
    prepare(params_with())
    dataset, policy = Dataset.open(), Policy.open()
    train, test = (Material.of(dataset.split(name), policy.frame, policy.plain) for name in ("train", "test"))
    ended: dict[str, list[Ended]] = {"convoy": [], "lightning": [], "plain": []}
    recipe = Recipe(bench.device, epochs, size, 0.2, 0.0005, bench.workers)

    def side(name: str, learn: Callable[[int], Ended]) -> Callable[[], float]:
        def turn() -> float:
            ended[name].append(learn(len(ended[name])))
            return statistics.median(ended[name][-1].seconds)

        return turn

    def theirs(epochs_of: Callable[..., list[float]]) -> Callable[[int], Ended]:
        def learn(seed: int) -> Ended:
            torch.manual_seed(seed)
            learner = build_learner(params_with(), dataset, policy).to(bench.device, memory_format=torch.channels_last)
            start = time.perf_counter()
            with as_it_comes():
                seconds = epochs_of(learner.network, train, policy, recipe)
            whole = time.perf_counter() - start
            return Ended(seconds, whole, _accuracy(learner, test, policy, bench))

        return learn

    sides = {
        "convoy": side("convoy", lambda seed: _convoy(params_with(f"seed={seed}"), test, bench)),
        "lightning": side("lightning", theirs(lightning_epochs)),
        "plain": side("plain", theirs(plain_epochs)),
    }
    times = taking_turns(sides, bench.size(2, 1))
    for name, runs in ended.items():
        yield {
            "side": name,
            "epochs": epochs,
            "seconds of an epoch": statistics.median(times[name]),
            "of its first one": runs[0].seconds[0],
            "seconds of all": statistics.median(run.whole for run in runs),
            "accuracy": [run.accuracy for run in runs],
        }
    for peer in ("lightning", "plain"):
        yield {"what": f"time of an epoch, {peer} / convoy", "ratio": ratios(times, peer, "convoy")}


def _convoy(params: Params, test: Material, bench: Bench) -> Ended:
    """The same as the stage does, but for the outputs; the times of its epochs are those that it notes."""
    start = time.perf_counter()
    training = assemble(params, Dataset.open(), Policy.open())
    try:
        quietly(lambda: finish_epochs(training))
    finally:
        training.close()
    whole = time.perf_counter() - start
    seconds = seconds_of_epochs(training.batches.steps * training.batch_size)
    return Ended(seconds, whole, _accuracy(training.machine.learner, test, training.policy, bench))


def _accuracy(learner: Learner, test: Material, policy: Policy, bench: Bench) -> float:
    learner.eval()
    with as_it_comes(searching=False):
        return accuracy(lambda *batch: learner.validate(*batch)[1], [test], policy, bench.device)
