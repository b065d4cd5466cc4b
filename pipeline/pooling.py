"""One answer of several networks: the mean of what they say, in the form in which each of them says it.

Source: Lakshminarayanan, Pritzel, Blundell. Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles,
2017, section 2.4: probabilities are averaged, and not what they are computed from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.numbers import Scale

Pool = Callable[[Tensor], Tensor]
"""From the answers of n networks, [n, B, ...], to one of them all, [B, ...]."""


class Pooled(nn.Module):
    """Several networks that see the same pictures and answer as one."""

    def __init__(self, members: Sequence[nn.Module], pool: Pool) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._pool = pool

    def forward(self, pictures: Tensor) -> Tensor:
        """The answer to pictures float32 [B, C, S, S]."""
        return self._pool(torch.stack([member(pictures) for member in self.members]))


def values(answers: Tensor) -> Tensor:
    """The plain mean: of places, counts, scores."""
    return answers.mean(dim=0)


def softmaxes(answers: Tensor) -> Tensor:
    """Logits whose softmax is the mean of those of [n, B, K] or [n, B, K, H, W]."""
    return answers.float().log_softmax(dim=2).logsumexp(dim=0) - math.log(len(answers))


def sigmoids(answers: Tensor) -> Tensor:
    """Logits whose sigmoid is the mean of those of [n, B, K].

    Worked out in logarithms, so that chances near 0 and 1 keep what tells them apart.
    """
    yes, no = F.logsigmoid(answers.float()).logsumexp(dim=0), F.logsigmoid(-answers.float()).logsumexp(dim=0)
    return yes - no


def directions(answers: Tensor) -> Tensor:
    """Embeddings [n, B, E] beside each other, [B, n * E], so that the cosine of two is the mean of their cosines."""
    return F.normalize(answers.float(), dim=2).movedim(0, 1).flatten(1) / math.sqrt(len(answers))


def numbers(answers: Tensor, scales: Sequence[Scale]) -> Tensor:
    """The mean of numbers float32 [n, B, T], of those that begin again after a period their mean direction."""
    columns = []
    for column, scale in zip(answers.unbind(dim=2), scales, strict=True):
        if scale.kind == "circular":
            turns = column * (2 * math.pi / scale.period)
            mean = torch.atan2(turns.sin().mean(dim=0), turns.cos().mean(dim=0))
            turn = torch.remainder(torch.remainder(mean / (2 * math.pi), 1.0), 1.0)  # see `numbers.decoded`
            columns.append(turn * scale.period)
        elif scale.kind == "log":
            columns.append(column.log().mean(dim=0).exp())
        else:
            columns.append(column.mean(dim=0))
    return torch.stack(columns, dim=1)
