"""What the loop sees: a network and its loss behind one forward."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from pipeline.bundle import normaliser
from pipeline.dataset import Dataset
from pipeline.networks import answered, learnt_from
from pipeline.params import TrainParams
from pipeline.policy import Policy
from pipeline.train.recompute import recompute
from pipeline.train.sizes import smaller
from pipeline.training import MixingConfig, Weighing

Compared = Sequence[tuple[Tensor, float | Tensor]]
"""What the answers to a batch are compared with: targets, each with its share of the loss."""


class Learner(nn.Module):
    """A network and its loss. Pictures come as uint8; they are normalised where the network is."""

    def __init__(self, normalise: nn.Module, network: nn.Module, loss: nn.Module, mixing: MixingConfig) -> None:
        super().__init__()
        self.normalise = normalise
        self.network = network
        self.loss = loss
        self.mixing = mixing
        self.weighing = isinstance(loss, Weighing)
        self.memory_format = torch.contiguous_format
        self.side: int | None = None
        """Of the pictures that are learnt from; None: as they come."""

    def prepared(
        self, pictures: Tensor, targets: Tensor, random: np.random.Generator | None = None
    ) -> tuple[Tensor, Compared]:
        """What the network sees of a batch, and what its answers are compared with, each with its share of the loss.

        Args:
            pictures: uint8 [B, S, S, C].
            targets: of each.
            random: seeded for this step, to blend the pictures by; None: each is taken as it is, at full size.

        Returns:
            float32 [B, C, S, S], of another S if `side` is set, and targets with shares that add up to 1.
        """
        seen = self.normalise(pictures)
        compared: Compared = [(targets, 1.0)]
        if random is not None:
            seen, compared = self.mixing.mixed(smaller(seen, self.side), targets, random)
        return seen.contiguous(memory_format=self.memory_format), compared

    def forward(self, seen: Tensor, compared: Compared) -> tuple[Tensor, Any]:
        """From `prepared` to the mean loss, a scalar, and what it was learnt from."""
        learnt = learnt_from(self.network, seen)
        wide = learnt.float() if isinstance(learnt, Tensor) else learnt
        losses = [_times(self.loss(wide, each), share) for each, share in compared]
        return functools.reduce(torch.add, losses), learnt

    def weight(self, targets: Tensor) -> float | Tensor:
        """What the loss of such targets weighs beside that of others: see `training.Weighing`."""
        return self.loss.total_weight(targets) if self.weighing else len(targets)  # type: ignore[operator]

    def validate(self, pictures: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """From pictures uint8 [B, S, S, C] and their targets to the mean loss and the answers."""
        loss, learnt = self(*self.prepared(pictures, targets))
        return loss, answered(self.network, learnt)

    def arrange(self, memory_format: torch.memory_format) -> None:
        """Lay weights and pictures out in this memory format."""
        self.memory_format = memory_format
        self.network.to(memory_format=memory_format)


def _times(loss: Tensor, share: float | Tensor) -> Tensor:
    return loss if isinstance(share, float) and share == 1 else loss * share


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
    if params.train.recompute:
        recompute(network)
    return Learner(
        normaliser(policy.mean, policy.deviation), network, params.loss.build(counts, outputs), params.mixing
    )


def parameter_groups(learner: Learner, rates: Mapping[Parameter, float]) -> list[dict[str, Any]]:
    """Filters and matrices, which weight decay shrinks, and norms and biases, which it leaves alone.

    Args:
        learner: whose weights.
        rates: by what the learning rate of some of them is multiplied; weights of one rate are in one group.
    """
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for weights in learner.parameters():
        if weights.requires_grad:
            share, decays = rates.get(weights, 1.0), weights.ndim > 1
            group = groups.setdefault((-share, not decays), {"params": [], "share": share})
            group["params"].append(weights)
            if not decays:
                group["weight_decay"] = 0.0
    return [groups[key] for key in sorted(groups)]


def counted(seed: int, *position: object) -> int:
    """63 bits that depend on the seed and the position alone: randomness is counted, never streamed."""
    text = "/".join(map(str, (seed, *position))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
