"""A second set of a network's weights, and how it is moved: all tensors in two calls, however many there are."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Parts(NamedTuple):
    """The tensors of a state, in its order; of weights that processes share out, what this one has of them."""

    fractions: list[Tensor]
    others: list[Tensor]
    """Whole numbers, as the count of batches behind a statistic."""

    @classmethod
    def of(cls, state: dict[str, Tensor]) -> Parts:
        """Those of a network's state; they are its own memory."""
        own = [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in state.values()]
        return cls(
            [each for each in own if each.is_floating_point()], [each for each in own if not each.is_floating_point()]
        )


class Copies:
    """The state of a network, its weights and the statistics of its normalisation, kept beside it.

    Statistics are averaged as the weights are, and so stay near those of the averaged network. What is no fraction is
    copied.

    Source: Tan, Le. EfficientNet, 2019 (the authors' code averages both), and timm's ModelEmaV3.
    """

    def __init__(self, network: nn.Module) -> None:
        self.tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        self._own = Parts.of(self.tensors)
        self._network, self._theirs = network, Parts.of(network.state_dict())

    @torch.no_grad()
    def move(self, network: nn.Module, share: float) -> None:
        """So much of the way to where the network is, in 0..1."""
        theirs = self._parts_of(network)
        torch._foreach_lerp_(self._own.fractions, theirs.fractions, share)
        if theirs.others:
            torch._foreach_copy_(self._own.others, theirs.others)

    @torch.no_grad()
    def give(self, network: nn.Module) -> None:
        """Put the network where these are."""
        for own, theirs in zip(self._own, self._parts_of(network), strict=True):
            if own:
                torch._foreach_copy_(theirs, own)

    def state_dict(self) -> dict[str, Any]:
        """See `Average.state_dict`."""
        return dict(self.tensors)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take these values over, to where the copies are."""
        for name, tensor in self.tensors.items():
            tensor.copy_(state[name])

    def _parts_of(self, network: nn.Module) -> Parts:
        # Walking through the modules may take longer than a step: once is enough, the tensors stay the same ones.
        if network is not self._network:
            self._network, self._theirs = network, Parts.of(network.state_dict())
        return self._theirs
