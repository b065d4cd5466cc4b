"""What the loop sees: a network and its loss behind one forward."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.bundle import normaliser
from pipeline.dataset import Dataset
from pipeline.networks import answered, learnt_from
from pipeline.params import TrainParams
from pipeline.policy import Policy


class Learner(nn.Module):
    """A network and its loss. Pictures come as uint8; they are normalised where the network is."""

    def __init__(self, normalise: nn.Module, network: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network
        self.loss = loss
        self.memory_format = torch.contiguous_format

    def forward(self, pictures: Tensor, targets: Tensor) -> tuple[Tensor, Any]:
        """Pictures uint8 [B, S, S, C] and their targets to the mean loss, a scalar, and what it was learnt from."""
        learnt = learnt_from(self.network, self.normalise(pictures).contiguous(memory_format=self.memory_format))
        wide = learnt.float() if isinstance(learnt, Tensor) else learnt
        loss: Tensor = self.loss(wide, targets)
        return loss, learnt

    def validate(self, pictures: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Likewise to the mean loss and the answers."""
        loss, learnt = self(pictures, targets)
        return loss, answered(self.network, learnt)

    def arrange(self, memory_format: torch.memory_format) -> None:
        """Lay weights and pictures out in this memory format."""
        self.memory_format = memory_format
        self.network.to(memory_format=memory_format)


def build_learner(params: TrainParams, dataset: Dataset, policy: Policy) -> Learner:
    """The learner that params describe, its first weights drawn from `params.seed`.

    Raises:
        UserError: the architecture cannot take pictures of this size, or class weights do not fit the classes.
    """
    torch.manual_seed(counted(params.seed, "weights"))
    info = dataset.info
    counts = [info.counts["train"].get(name, 0) for name in info.classes]
    outputs = params.task.outputs(info, params.model.gives)
    network = params.task.answering(params.model.build(info.channels, outputs, policy.size), info)
    return Learner(normaliser(policy.mean, policy.deviation), network, params.loss.build(counts, outputs))


def parameter_groups(learner: Learner) -> list[dict[str, Any]]:
    """Filters and matrices, which weight decay shrinks, and norms and biases, which it leaves alone."""
    trained = [weights for weights in learner.parameters() if weights.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [weights for weights in trained if weights.ndim > 1]},
        {"params": [weights for weights in trained if weights.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def counted(seed: int, *position: object) -> int:
    """63 bits that depend on the seed and the position alone: randomness is counted, never streamed."""
    text = "/".join(map(str, (seed, *position))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of the training images in an epoch: a permutation of 0..count-1, int64."""
    order: np.ndarray = np.random.Generator(np.random.PCG64(counted(seed, "order", epoch))).permutation(count)
    return order


def in_runs(order: np.ndarray, classes: np.ndarray, length: int) -> np.ndarray:
    """The same order, but for so many images of a class that follow each other.

    Each class gives its images in runs, the last of which may be shorter; in every round each class that has some left
    gives one run, in the order in which the first images of these runs came.

    Args:
        order: a permutation of the N images, int64 [N].
        classes: of each image, int64 [N].
        length: of a run, > 0.

    Returns:
        A permutation, int64 [N].
    """
    of_class = classes[order]
    by_class = np.argsort(of_class, kind="stable")  # places in `order`, class after class
    counts = np.unique(of_class, return_counts=True)[1]
    within = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    run = within // length
    first = by_class[np.arange(len(order)) - within % length]  # the place of the first image of the run
    arranged: np.ndarray = order[by_class[np.lexsort((within, first, run))]]
    return arranged
