"""One model of several trainings: what each has kept, put together, and what that is worth on validation."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch import nn

from pipeline.answering import Answers
from pipeline.dataset import Split
from pipeline.networks import learnt_from
from pipeline.packed import views
from pipeline.params import TrainParams
from pipeline.plugin import metric_named
from pipeline.pooling import Pooled
from pipeline.telling import Held
from pipeline.train.assembly import Training
from pipeline.train.batches import Material, plain_batches, steps_per_epoch
from pipeline.train.layers import Freezer
from pipeline.train.losses_of_views import plain_views
from pipeline.train.machine import MEMORY_FORMATS
from pipeline.train.members import soup
from pipeline.train.outputs import facts_of
from pipeline.train.processes.alone import go_on_alone
from pipeline.train.refreshing import MOST, refreshed

OF_ONE = ("epochs", "best_epoch", "accumulation", "diverged", "rate_scale")
"""Facts of one training that say nothing of another."""


@dataclass(frozen=True)
class Trained:
    """What one training has come to."""

    training: Training
    """Closed."""
    network: nn.Module
    """With the weights of its best epoch, on the device."""
    facts: dict[str, Any]


@dataclass(frozen=True)
class Whole:
    """The model that all of them make."""

    network: nn.Module
    answers: Answers
    """To images that they validated on: of folds each by the member that has not learnt from it."""
    facts: dict[str, Any]


def kept(training: Training) -> Trained:
    """The network of the best epoch of a training that has ended, which lets go of what only learning needs."""
    machine, ranks, facts = training.machine, training.ranks, facts_of(training)
    training.features = None
    machine.go_on_with(machine.learner)
    if ranks.first:
        if ranks.count > 1:
            go_on_alone(training)
        machine.learner.network.load_state_dict(training.checkpoints.best(training.progress.best_epoch))
    return Trained(training, machine.learner.network, facts)


def whole(params: TrainParams, members: Sequence[Trained]) -> Whole:
    """Put the members of an ensemble together."""
    first = members[0].training
    if params.ensemble.join == "soup":
        network = _stirred(members)
    else:
        network = Pooled([one.network for one in members], params.task.pool(first.dataset.info))
    if params.ensemble.by == "folds":
        answers = _out_of_fold(params, members)
    else:
        answers = _answers(params, first, network, first.member.val, first.val)
    name = params.task.score
    metric = metric_named(name)
    score = float(metric.score(answers, np.ones((1, len(answers))))[0])
    worths = [one.training.progress.best_score for one in members]
    scores = [metric.turned(worth) if math.isfinite(worth) else math.nan for worth in worths]
    networks = 1 if params.ensemble.join == "soup" else len(members)
    facts = _facts(members, networks) | {f"val_{name}": _known(score)}
    each = [{**of_one, f"val_{name}": _known(worth)} for of_one, worth in zip(_each(members), scores, strict=True)]
    unseen = "each fold by the member that has not seen it" if params.ensemble.by == "folds" else "together"
    print(f"train: {len(members)} members, val {name} {spread(scores)} each; {unseen}: {score:.4f}", flush=True)
    return Whole(network, answers, {**facts, "members": each})


def _facts(members: Sequence[Trained], networks: int) -> dict[str, Any]:
    """What is to be known of all of them, of which so many networks answer."""
    alike = {key: fact for key, fact in members[0].facts.items() if key not in OF_ONE}
    moves = [f"{one.training.member.title}{move}" for one in members for move in one.training.progress.moves]
    return {
        **alike,
        "epochs": sum(one.facts["epochs"] for one in members),
        **{key: alike[key] * networks for key in ("parameters", "learnt")},
        **({"moves": moves} if moves else {}),
    }


def _each(members: Sequence[Trained]) -> list[dict[str, Any]]:
    """What is to be known of each of them alone."""
    return [{key: one.facts[key] for key in OF_ONE if key in one.facts} for one in members]


def spread(scores: Sequence[float]) -> str:
    """Mean and deviation of what several are worth, in words; of one whose images leave its score undefined, nan."""
    known = [score for score in scores if not math.isnan(score)]
    words = f"{statistics.fmean(known) if known else math.nan:.4f}"
    if len(known) > 1:
        words += f" +- {statistics.stdev(known):.4f}"
    return words if len(known) == len(scores) else f"{words} (undefined for {len(scores) - len(known)})"


def _known(score: float) -> float | None:
    """A score as JSON has it, which knows no nan."""
    return None if math.isnan(score) else score


def _stirred(members: Sequence[Trained]) -> nn.Module:
    """One network with the mean of their weights, and statistics of batch normalisation measured anew for them.

    Layers that rested in all epochs of all members keep theirs: they are as they began.
    """
    training = members[0].training
    network = copy.deepcopy(members[0].network)
    network.load_state_dict(soup([one.network.state_dict() for one in members]))
    learner, device = training.machine.learner, training.machine.device

    def see() -> None:
        views, size = plain_views(training), training.params.train.batch_size
        # Full batches, as in training: what is left over weighs as much, and of one picture vectors have no variance.
        batches = min(MOST, steps_per_epoch(len(views), size))
        for batch in islice(plain_batches(views, training.policy, size), batches):
            learnt_from(network, learner.prepared(batch.pictures.to(device), batch.targets.to(device))[0])

    freezer = Freezer(network, training.params.layers)
    freezer.enter(max(one.training.progress.epoch for one in members) - 1)
    network.train()
    freezer.rest()
    torch.manual_seed(training.params.seed)
    with training.machine.arithmetic.autocast(device):
        refreshed(network, see)
    return network.eval()


def _out_of_fold(params: TrainParams, members: Sequence[Trained]) -> Answers:
    """The answers to all images of training and validation, each by the member that validated on it."""
    told: dict[str, Any] = {}
    for one in members:
        member, training = one.training.member, one.training
        said = _told(params, training, one.network, member.val, training.val)
        told |= dict(zip(member.val.ids, said, strict=True))
    dataset = members[0].training.dataset
    both = Split(dataset, dataset.samples.filter(pc.field("split") != "test"))
    return params.task.answers(both, [told[identity] for identity in both.ids])


def _answers(params: TrainParams, training: Training, network: nn.Module, split: Split, material: Material) -> Answers:
    return params.task.answers(split, _told(params, training, network, split, material))


def _told(params: TrainParams, training: Training, network: nn.Module, split: Split, material: Material) -> list[Any]:
    """What a network says of a split, as the task reads it; it is computed as the training was."""
    machine, policy = training.machine, training.policy
    held = Held(params.task, views(split, policy.frame, policy.plain))
    network.eval()
    layout = MEMORY_FORMATS[machine.arithmetic.memory_format]
    with torch.inference_mode():
        for batch in plain_batches(material, policy, params.train.batch_size):
            with machine.arithmetic.autocast(machine.device):
                seen = machine.learner.normalise(batch.pictures.to(machine.device)).contiguous(memory_format=layout)
                held.add(network(seen).float().cpu().numpy())
    return held.told
