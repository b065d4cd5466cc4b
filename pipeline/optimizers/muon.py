"""Muon: filters move by their mean gradient with all its singular values made alike; all else goes by AdamW or SGD.

Sources: Jordan et al. Muon: An optimizer for hidden layers in neural networks, 2024; of `fixed_norm` Jordan's speed run
of CIFAR-10, airbench94_muon, 2024. As there, a bank of filters is a matrix [outputs, inputs * height * width], and a
matrix with more rows than columns makes longer steps, by the square root of how many times as many it has.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.optim import Optimizer

from pipeline.optimizers._adam import adam
from pipeline.optimizers._newton_schulz import evened
from pipeline.optimizers._weights import gradients, states, with_gradients
from pipeline.training import OptimizerConfig

EPSILON = 1e-8


class Config(OptimizerConfig):
    """Filters are weights of four axes or more, and more outputs than one.

    Matrices are left to the other optimizer, for the last layer is one, and what it learns is no rotation of features;
    `matrices` says otherwise, for networks that are made of them.
    """

    lr: float = Field(0.02, gt=0, allow_inf_nan=False)
    """Learning rate of filters; the schedule multiplies it, and with it those below."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Share of the last mean gradient that is carried into the next."""
    nesterov: bool = True
    """Look ahead along the mean gradient; needs momentum."""
    steps: int = Field(5, ge=1, le=20)
    """Of the iteration that makes singular values alike."""
    weight_decay: float = Field(0.01, ge=0, allow_inf_nan=False)
    """How fast filters shrink, times the learning rate; matrices shrink as `others` has it, norms and biases do not."""
    fixed_norm: bool = False
    """Before each step, bring each bank of filters to the norm that orthogonal ones have, the root of their number:
    for filters that batch normalisation follows, whose length makes no difference to what the network says."""
    matrices: bool = False
    """Whether matrices learn as filters do."""
    others: Literal["adamw", "sgd"] = "adamw"
    """What everything else goes by."""
    others_momentum: float = Field(0.9, ge=0, lt=1)
    """Of AdamW the first beta, whose second is 0.999; of SGD the momentum, with Nesterov's look ahead."""
    matrices_lr: float = Field(0.003, gt=0, allow_inf_nan=False)
    """Learning rate of matrices that do not learn as filters do, such as the last layer."""
    vectors_lr: float = Field(0.003, gt=0, allow_inf_nan=False)
    """Learning rate of norms and biases, and of whatever else there is."""

    @model_validator(mode="after")
    def _looks_ahead_along_something(self) -> Config:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum > 0; set nesterov to false or momentum to 0.95")
        return self

    def build(self, groups: list[dict[str, Any]]) -> Optimizer:
        """See `OptimizerConfig.build`."""
        return Muon(groups, self)

    def evens(self, weights: Tensor) -> bool:
        """Whether these weights are moved as a matrix with singular values."""
        return (weights.ndim >= 4 or (weights.ndim == 2 and self.matrices)) and len(weights) > 1


class Muon(Optimizer):
    """See above."""

    def __init__(self, groups: list[dict[str, Any]], options: Config) -> None:
        defaults = {"lr": options.lr, "momentum": options.momentum, "weight_decay": options.weight_decay}
        super().__init__(groups, defaults)
        self._options = options

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Learn from the gradients as they are."""
        options = self._options
        for group in self.param_groups:
            weights = with_gradients(group)
            filters = [each for each in weights if options.evens(each)]
            matrices = [each for each in weights if each.ndim == 2 and not options.evens(each)]
            vectors = [each for each in weights if each.ndim != 2 and not options.evens(each)]
            if filters:
                self._move(filters, group)
            for others, rate in ((matrices, options.matrices_lr), (vectors, options.vectors_lr)):
                if others:
                    self._move_others(others, group["lr"] * (rate / options.lr), group["weight_decay"])

    def _move(self, filters: list[Tensor], group: dict[str, Any]) -> None:
        """Filters and matrices, by singular values made alike."""
        rows = as_matrices(filters, filters)
        slopes, means = as_matrices(gradients(filters), filters), as_matrices(states(self, filters, "mean"), filters)
        torch._foreach_mul_(means, group["momentum"])
        torch._foreach_add_(means, slopes)
        moves = means
        if self._options.nesterov:
            moves = list(torch._foreach_mul(means, group["momentum"]))
            torch._foreach_add_(moves, slopes)
        if self._options.fixed_norm:
            longer = torch._foreach_div(torch._foreach_norm(rows), [len(each) ** 0.5 for each in rows])
            torch._foreach_div_(rows, torch._foreach_clamp_min(longer, EPSILON))
        torch._foreach_mul_(rows, 1 - group["lr"] * group["weight_decay"])
        for (height, width), places in alike(rows).items():  # matrices of one shape in one product
            even = evened(torch.stack([moves[place] for place in places]), self._options.steps)
            even *= -group["lr"] * math.sqrt(max(1.0, height / width))
            torch._foreach_add_([rows[place] for place in places], list(even.unbind()))

    def _move_others(self, weights: list[Tensor], rate: float | Tensor, decay: float) -> None:
        """Everything else, by AdamW, which shrinks weights apart from their step, or by SGD, which does so in it."""
        momentum = self._options.others_momentum
        if self._options.others == "adamw":
            moves = adam(self, weights, (momentum, 0.999), EPSILON)
            torch._foreach_mul_(weights, 1 - rate * decay)
        else:
            moves, means = list(torch._foreach_mul(weights, decay)), states(self, weights, "mean")
            torch._foreach_add_(moves, gradients(weights))
            torch._foreach_mul_(means, momentum)
            torch._foreach_add_(means, moves)
            torch._foreach_add_(moves, means, alpha=momentum)
        torch._foreach_mul_(moves, -rate)
        torch._foreach_add_(weights, moves)


def as_matrices(tensors: Sequence[Tensor], filters: Sequence[Tensor]) -> list[Tensor]:
    """Each as [outputs, inputs * height * width], a view of it, in the order of memory of the filters it belongs to.

    The order of the columns makes no difference to Muon, and nothing is copied.
    """
    rows = []
    for each, like in zip(tensors, filters, strict=True):
        last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
        rows.append((each.permute(0, 2, 3, 1) if last else each).flatten(1))
    return rows


def alike(matrices: Sequence[Tensor]) -> dict[tuple[int, int], list[int]]:
    """The places of the matrices of each shape."""
    places = defaultdict(list)
    for place, each in enumerate(matrices):
        places[each.shape[0], each.shape[1]].append(place)
    return places
