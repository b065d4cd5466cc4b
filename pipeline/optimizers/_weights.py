"""What the optimizers that are written here have in common: weights, gradients and states as lists.

A list is moved by torch's `_foreach` operations, which take few kernels for all of it, and nothing that is computed on
the way is read by Python: a step never waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

Descent = TypeVar("Descent", bound=SGD)


def with_gradients(group: dict[str, Any]) -> list[Tensor]:
    """The weights of a group that have a gradient; those of frozen layers have none."""
    return [weights for weights in group["params"] if weights.grad is not None]


def gradients(weights: Sequence[Tensor]) -> list[Tensor]:
    """The gradient of each."""
    return [each.grad for each in weights if each.grad is not None]


def states(optimizer: Optimizer, weights: Sequence[Tensor], name: str) -> list[Tensor]:
    """What the optimizer remembers of each under a name, of its shape and layout: zeros at first."""
    for each in weights:
        if name not in optimizer.state[each]:
            optimizer.state[each][name] = torch.zeros_like(each)
    return [optimizer.state[each][name] for each in weights]


def are_whole(groups: Sequence[dict[str, Any]]) -> bool:
    """Whether all weights are, and not shared out to several processes, which torch's fused SGD does not know."""
    return not any(hasattr(each, "full_tensor") for group in groups for each in group["params"])


def with_momentum(optimizer: Descent) -> Descent:
    """Let torch's SGD begin with a momentum of zero, which gives the same first step.

    By itself it begins with one that is not filled until the first step of all weights at once: wrong where float16
    skips that step, and an error where a layer thaws later than others.
    """
    for group in optimizer.param_groups:
        if group["momentum"]:
            states(optimizer, group["params"], "momentum_buffer")
    return optimizer
