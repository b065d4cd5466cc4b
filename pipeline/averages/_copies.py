"""A second set of a network's weights, and how it is moved: all tensors in two calls, however many there are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Copies:
    """The state of a network, its weights and the statistics of its normalisation, kept beside it.

    Statistics are averaged as the weights are, and so stay near those of the averaged network. What is no fraction, as
    the count of batches behind them, is copied.

    Source: Tan, Le. EfficientNet, 2019 (the authors' code averages both), and timm's ModelEmaV3.
    """

    def __init__(self, network: nn.Module) -> None:
        self.tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        self._fractions = [name for name, tensor in self.tensors.items() if tensor.is_floating_point()]
        self._others = [name for name, tensor in self.tensors.items() if not tensor.is_floating_point()]
        self._follow(network)

    @torch.no_grad()
    def move(self, network: nn.Module, share: float) -> None:
        """So much of the way to where the network is, in 0..1."""
        self._follow(network)
        torch._foreach_lerp_(self._of(self.tensors, self._fractions), self._of(self._live, self._fractions), share)
        if self._others:
            torch._foreach_copy_(self._of(self.tensors, self._others), self._of(self._live, self._others))

    @torch.no_grad()
    def give(self, network: nn.Module) -> None:
        """Put the network where these are."""
        self._follow(network)
        torch._foreach_copy_(list(self._live.values()), list(self.tensors.values()))

    def state_dict(self) -> dict[str, Any]:
        """See `Average.state_dict`."""
        return dict(self.tensors)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take these values over, to where the copies are."""
        for name, tensor in self.tensors.items():
            tensor.copy_(state[name])

    def _follow(self, network: nn.Module) -> None:
        # Walking through the modules takes longer than a step of a small network: the tensors stay the same ones.
        if getattr(self, "_network", None) is not network:
            self._network, self._live = network, network.state_dict()

    @staticmethod
    def _of(state: dict[str, Tensor], names: list[str]) -> list[Tensor]:
        return [state[name] for name in names]
