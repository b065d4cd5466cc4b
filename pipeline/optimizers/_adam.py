"""The step of Adam, before it is multiplied by a rate: the mean gradient over the root of its mean square.

Source: Kingma, Ba. Adam: A Method for Stochastic Optimization, 2014, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from pipeline.optimizers._weights import gradients, states


def adam(optimizer: Optimizer, weights: Sequence[Tensor], betas: tuple[float, float], epsilon: float) -> list[Tensor]:
    """The step of each, from its gradient and from what `optimizer` remembers of it, which is brought up to date.

    Args:
        optimizer: which keeps `mean`, `square` and `count` of each.
        weights: with gradients.
        betas: memory of the mean and of the square.
        epsilon: added to the root.
    """
    slopes = gradients(weights)
    means, squares = states(optimizer, weights, "mean"), states(optimizer, weights, "square")
    for each in weights:
        optimizer.state[each]["count"] = optimizer.state[each].get("count", 0) + 1
    # Each counts for itself, for layers that thaw later begin later.
    counts = [optimizer.state[each]["count"] for each in weights]
    torch._foreach_lerp_(means, slopes, 1 - betas[0])
    torch._foreach_mul_(squares, betas[1])
    torch._foreach_addcmul_(squares, slopes, slopes, value=1 - betas[1])
    sizes = torch._foreach_sqrt(squares)
    torch._foreach_div_(sizes, [(1 - betas[1] ** count) ** 0.5 for count in counts])
    torch._foreach_add_(sizes, epsilon)
    moves = torch._foreach_div(means, sizes)
    torch._foreach_div_(moves, [1 - betas[0] ** count for count in counts])
    return list(moves)
