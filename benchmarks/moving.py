"""What moves the weights of a network: Convoy's optimizers, each beside torch's as it comes and as it is fastest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from pipeline.plugin import config_class

LR = 1e-6
Step = Callable[[], object]


def rivals(network: nn.Module) -> Mapping[str, Mapping[str, Step]]:
    """By optimizer and side, a step; the gradients of the network are made up."""
    for weights in network.parameters():
        weights.grad = torch.randn_like(weights)

    def groups() -> list[dict[str, Any]]:  # of each side, for torch notes its options in them
        return [{"params": list(network.parameters())}]

    def ours(name: str) -> Step:
        config = config_class("optimizers", name).model_validate({"lr": LR})
        return config.build(groups()).step  # type: ignore[attr-defined, no-any-return]

    sgd = {"lr": LR, "momentum": 0.9, "nesterov": True}
    return {
        "adamw": {
            "convoy": ours("adamw"),
            "torch": torch.optim.AdamW(groups(), lr=LR).step,
            "torch, fused": torch.optim.AdamW(groups(), lr=LR, fused=True).step,
        },
        "sgd": {
            "convoy": ours("sgd"),
            "torch": torch.optim.SGD(groups(), **sgd).step,
            "torch, fused": torch.optim.SGD(groups(), **sgd, fused=True).step,
        },
        "muon": {"convoy": ours("muon"), "torch": _muon(network)},
        "lamb": {"convoy": ours("lamb")},
        "lion": {"convoy": ours("lion")},
    }


def _muon(network: nn.Module) -> Step:
    """torch's Muon, which takes matrices alone, on copies of the filters, and its AdamW for all else."""
    filters, others = [], []
    for weights in network.parameters():
        if weights.ndim == 4:
            matrix = Parameter(weights.detach().clone().flatten(1))
            matrix.grad = torch.randn_like(matrix)
            filters.append(matrix)
        else:
            others.append(weights)
    optimizers: list[Optimizer] = [
        torch.optim.Muon(filters, lr=LR),
        torch.optim.AdamW(others, lr=LR, fused=True),
    ]

    def step() -> None:
        for optimizer in optimizers:
            optimizer.step()

    return step
