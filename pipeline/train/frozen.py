"""Where only the head of a network learns, what it learns from is computed once: the features of each picture.

That holds as long as a picture gives the same features every time: nothing varies it, and no dropout lies before the
head. Then an epoch costs a matrix product instead of a forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.networks import Deciding, answered, learnt_from
from pipeline.plugin import config_class
from pipeline.policy import Policy
from pipeline.progress import track
from pipeline.train.batches import Batch, Material, plain_batches
from pipeline.train.learner import Learner
from pipeline.train.machine import Machine
from pipeline.train.resident import memory
from pipeline.variations.device import sent

LARGEST = 0.25
"""Share of the device's memory that the features of a split may take; of all of it, as with pictures in `resident`."""


class OnHead(Deciding):
    """The head of a network, which takes features and answers as the whole network would."""

    def __init__(self, head: nn.Module, whole: nn.Module) -> None:
        super().__init__()
        self.head = head
        self._whole = (whole,)  # in a tuple, so that its weights are not taken for those of this one

    def raw(self, pictures: Tensor) -> Any:
        """See `Deciding.raw`, from features [B, ...]."""
        return self.head(pictures)

    def answer(self, raw: Any) -> Tensor:
        """See `Deciding.answer`."""
        return answered(self._whole[0], raw)


class FeatureBatches:
    """Batches of features, in place of the batches of pictures that they were computed from."""

    def __init__(self, features: Tensor, targets: np.ndarray, batch_size: int, steps: int) -> None:
        self.steps = steps
        self._features = features
        self._targets = torch.from_numpy(np.array(targets)).to(features.device)
        self._size = batch_size

    def epoch(self, epoch: int, first: int, order: np.ndarray) -> Iterator[Batch]:
        """See `TrainingBatches.epoch`."""
        for step in range(first, self.steps):
            views = order[step * self._size : (step + 1) * self._size]
            rows = sent(views, self._features.device)
            yield Batch(self._features[rows], self._targets[rows], views)

    def plain(self) -> Iterator[Batch]:
        """All of them, in order."""
        for start in range(0, len(self._targets), self._size):
            yield Batch(self._features[start : start + self._size], self._targets[start : start + self._size])

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Features:
    """What the head of a network learns from, as long as it alone does."""

    train: FeatureBatches
    val: FeatureBatches


def why_not(machine: Machine, policy: Policy, varied: bool, example: Batch) -> str | None:
    """Why features cannot be kept, in words; None: they can.

    Args:
        machine: whose head alone learns.
        policy: by which pictures are varied.
        varied: whether anything else varies them: blends, sizes that grow.
        example: some pictures, at the network's size.
    """
    if varied or policy.mosaic or policy.transforms["transform"]["transforms"]:
        return "pictures vary from epoch to epoch; augment.name none and mixing.name none would let features be kept"
    modules = machine.freezer.head.modules
    if len(modules) != 1 or machine.freezer.head.loose:
        return "the last layer is more than one module"
    machine.learn()
    features = [captured(machine, modules[0], example, seed) for seed in (0, 1)]
    if any(each is None for each in features):
        return "the last layer does not take one tensor, once"
    first, second = features
    assert first is not None and second is not None
    if not torch.equal(first, second):
        return "dropout before the last layer makes its features differ from time to time"
    machine.learner.eval()
    if captured(machine, modules[0], example) is None:
        return "the network looks at pictures more than once"
    with torch.no_grad(), machine.arithmetic.autocast(machine.device):
        pictures, targets = example.pictures.to(machine.device), example.targets.to(machine.device)
        whole = learnt_from(machine.learner.network, machine.learner.prepared(pictures, targets)[0])
        if not isinstance(whole, Tensor) or not torch.equal(whole, modules[0](first)):
            return "the network does more after its last layer"
    return None


def captured(machine: Machine, head: nn.Module, batch: Batch, seed: int | None = None) -> Tensor | None:
    """What the head takes of some pictures, [B, ...] on the device; None: not one tensor, once.

    Args:
        machine: with the network, in whatever mode it is.
        head: a module of it.
        batch: of pictures.
        seed: of dropout; None leaves the generator alone.
    """
    taken: list[Any] = []
    handle = head.register_forward_pre_hook(lambda _, arguments: taken.append(arguments))
    try:
        if seed is not None:
            torch.manual_seed(seed)
        with torch.no_grad(), machine.arithmetic.autocast(machine.device):
            pictures, targets = batch.pictures.to(machine.device), batch.targets.to(machine.device)
            learnt_from(machine.learner.network, machine.learner.prepared(pictures, targets)[0])
    finally:
        handle.remove()
    if len(taken) != 1 or len(taken[0]) != 1 or not isinstance(taken[0][0], Tensor):
        return None
    features: Tensor = taken[0][0]
    return features


def features_of(machine: Machine, material: Material, policy: Policy, batch_size: int, what: str) -> Tensor | None:
    """The features of every view of a split, [V, ...] on the device; None: they take too much memory.

    Args:
        machine: with the network.
        material: the split.
        policy: of the pictures' size.
        batch_size: of the forward passes.
        what: of the progress bar.
    """
    (head,) = machine.freezer.head.modules
    machine.learner.eval()
    kept: Tensor | None = None
    at = 0
    with track(what, len(material)) as advance:
        for batch in plain_batches(material, policy, batch_size):
            features = captured(machine, head, batch)
            assert features is not None
            if kept is None:
                needed = features[0].numel() * features.element_size() * len(material)
                if needed > LARGEST * memory(machine.device):
                    return None
                kept = features.new_empty((len(material), *features.shape[1:]))
            kept[at : at + len(features)] = features
            at += len(features)
            advance(len(features))
    return kept


def head_learner(machine: Machine) -> Learner:
    """What learns from features in place of pictures: the head, with the loss and the weights of the whole learner."""
    (head,) = machine.freezer.head.modules
    whole = machine.learner
    nothing = config_class("mixings", "none").model_validate({})
    return Learner(nn.Identity(), OnHead(head, whole.network), whole.loss, nothing)  # type: ignore[arg-type]
