"""Networks that do not learn from what they answer.

A detector answers with boxes, after those that overlap have been suppressed, and learns from what it thinks of every
anchor. Its two halves have names here; what comes out of the first is for its loss alone.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn


class Deciding(nn.Module):
    """A network in two halves: `forward` is `answer(raw(pictures))`."""

    @abstractmethod
    def raw(self, pictures: Tensor) -> Any:
        """What the loss takes: pictures float32 [B, C, S, S] to whatever it is."""

    @abstractmethod
    def answer(self, raw: Any) -> Tensor:
        """What the network says, of a size that does not depend on the pictures: boxes float32 [B, D, 6]."""

    def forward(self, pictures: Tensor) -> Tensor:
        """The answer to pictures float32 [B, C, S, S]."""
        return self.answer(self.raw(pictures))


def learnt_from(network: nn.Module, pictures: Tensor) -> Any:
    """What the loss takes: of most networks what they answer."""
    return network.raw(pictures) if isinstance(network, Deciding) else network(pictures)


def answered(network: nn.Module, learnt: Any) -> Tensor:
    """The answer that comes of `learnt_from`."""
    answer: Tensor = network.answer(learnt) if isinstance(network, Deciding) else learnt
    return answer
