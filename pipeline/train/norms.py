"""The norm of each layer's gradient: one that vanishes, or explodes, shows here before the loss says so."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.wording import short

EVERY = 50
"""Steps of an epoch from one measurement to the next; its first and its last step are always measured."""
MOST = 100
"""Layers that are told apart: of deeper networks those that lie together count as one."""
ALL = "all"
"""What the norm over all weights is called."""
VANISHING = 1e-7
"""Share of the largest norm below which float32 adds next to nothing to a weight of the same size."""
EXPLODING = 1e3
"""Growth over the first step's norm."""


class Norms(NamedTuple):
    """Of the gradient of each weight that has one."""

    layers: tuple[str, ...]
    """The layer of each weight."""
    values: Tensor
    """float32 [P], left on the device: reading them waits for it."""

    def by_layer(self, values: Sequence[float]) -> dict[str, float]:
        """The norm of each layer, and of `all`, from the values as they were read."""
        squares: dict[str, float] = {ALL: 0.0}
        for layer, value in zip(self.layers, values, strict=True):
            squares[layer] = squares.get(layer, 0.0) + value * value
            squares[ALL] += value * value
        return {layer: math.sqrt(square) for layer, square in squares.items()}


def gradient_norms(learner: nn.Module) -> Norms:
    """Those of the gradient that is with the weights of a learner now."""
    named = list(learner.named_parameters())
    layers = layer_names(tuple(name for name, _ in named))
    held = [
        (layer, weights.grad) for layer, (_, weights) in zip(layers, named, strict=True) if weights.grad is not None
    ]
    values = torch.stack([norm.float() for norm in torch._foreach_norm([gradient for _, gradient in held])])
    whole = getattr(values, "full_tensor", None)  # of weights that processes share out
    return Norms(tuple(layer for layer, _ in held), whole() if whole else values)


@lru_cache(maxsize=8)
def layer_names(weights: tuple[str, ...]) -> tuple[str, ...]:
    """The layer of each weight, by the names of all: the module that holds it, as the network calls it.

    Of more than `MOST` layers as many of the last parts of their names are left off as it takes.
    """
    paths = [_path(name) for name in weights]
    depth = max(map(len, paths))
    while depth > 1 and len({path[:depth] for path in paths}) > MOST:
        depth -= 1
    return tuple(re.sub(r"[^\w.\-]", "_", ".".join(path[:depth])) for path in paths)  # as MLflow takes names


def _path(weight: str) -> tuple[str, ...]:
    parts = weight.split(".")[:-1]
    return tuple(parts[1:] if len(parts) > 1 and parts[0] == "network" else parts)


def warning(first: dict[str, float], epoch: Sequence[dict[str, float]]) -> str:
    """What is wrong with the gradients of an epoch, in one line; empty if nothing is.

    Args:
        first: the norms of the training's first step, by layer.
        epoch: those of each later step of the epoch that was measured. Branches whose last norm begins at 0, as timm
            has them, let no gradient through in the very first one.
    """
    shares: dict[str, float] = {}
    for norms in epoch:
        largest = max((norm for layer, norm in norms.items() if layer != ALL), default=0.0)
        for layer, norm in norms.items():
            if layer != ALL and largest:
                shares[layer] = max(shares.get(layer, 0.0), norm / largest)
    vanished = [layer for layer, share in shares.items() if share < VANISHING]
    if vanished:
        others = f" and {len(vanished) - 1} more" if len(vanished) > 1 else ""
        return (
            f"the gradient vanishes in layer {vanished[0]}{others}: all epoch it is under {short(VANISHING)} of the "
            "largest one, so next to nothing is learnt there. Normalisation or shorter ways through the network help."
        )
    least = min((norms[ALL] for norms in epoch), default=0.0)
    if least > EXPLODING * first.get(ALL, math.inf):
        return (
            f"the gradient explodes: its norm has grown from {short(first[ALL], 3)} to {short(least, 3)}. "
            "A lower optimizer.lr or train.clip_norm holds it."
        )
    return ""
