"""SAM: a step of SGD by the gradient at the worst place nearby, so that wide valleys are found rather than narrow ones.

Sources: Foret, Kleiner, Mobahi, Neyshabur. Sharpness-Aware Minimization for Efficiently Improving Generalization, 2020,
algorithm 1; Kwon, Kim, Park, Choi. ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep
Neural Networks, 2021, algorithm 1, elementwise. Two gradients a step make it twice as slow.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.optim import SGD, Optimizer

from pipeline.optimizers._weights import are_whole, gradients, with_gradients, with_momentum
from pipeline.training import OptimizerConfig

STEADY = 0.01
"""What ASAM adds to the size of each weight, so that those at zero move too."""


class Config(OptimizerConfig):
    """Options of SAM, over torch's SGD."""

    knows_every_gradient: ClassVar[bool] = True

    lr: float = Field(0.1, gt=0, allow_inf_nan=False)
    """Learning rate; the schedule multiplies it."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Share of the last step that is carried into the next."""
    nesterov: bool = True
    """Look ahead along the last step before correcting it; needs momentum."""
    weight_decay: float = Field(0.0005, ge=0, allow_inf_nan=False)
    """Added to the gradient, times the weight; norms and biases are spared."""
    rho: float = Field(0.05, gt=0, allow_inf_nan=False)
    """How far away the worst place is looked for; adaptive takes about ten times as much."""
    adaptive: bool = False
    """Measure that distance in shares of each weight (ASAM), so that it means the same for large and small ones."""

    @model_validator(mode="after")
    def _looks_ahead_along_something(self) -> Config:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum > 0; set nesterov to false or momentum to 0.9")
        return self

    def build(self, groups: list[dict[str, Any]]) -> Optimizer:
        """See `OptimizerConfig.build`."""
        return Sam(groups, self)


class Sam(SGD):
    """`training.Ascending`: SGD that climbs before each step."""

    def __init__(self, groups: list[dict[str, Any]], options: Config) -> None:
        super().__init__(
            groups,
            lr=options.lr,
            momentum=options.momentum,
            nesterov=options.nesterov,
            weight_decay=options.weight_decay,
            fused=are_whole(groups),
        )
        with_momentum(self)
        self._rho = options.rho
        self._adaptive = options.adaptive
        self._below: list[tuple[Tensor, Tensor]] = []
        """Weights that have climbed, each with what it was: to subtract what was added would not give the same bits."""

    @torch.no_grad()
    def ascend(self) -> None:
        """Move as far as `rho` along the gradient over all weights."""
        self._descend()
        weights = [each for group in self.param_groups for each in with_gradients(group)]
        if not weights:
            return
        self._below = [(each, each.clone()) for each in weights]
        slopes = gradients(weights)
        sizes = list(torch._foreach_abs(weights)) if self._adaptive else []
        if sizes:
            torch._foreach_add_(sizes, STEADY)
            slopes = list(torch._foreach_mul(slopes, sizes))
        length = torch.stack(torch._foreach_norm(slopes)).norm()
        moves = torch._foreach_mul(slopes, self._rho / (length + 1e-12))
        if sizes:
            torch._foreach_mul_(moves, sizes)
        torch._foreach_add_(weights, moves)

    def step(self) -> None:  # type: ignore[override]
        """Go back to where the climb began, and learn from the gradients as they are."""
        self._descend()
        super().step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to a state: what had climbed when a step failed is somewhere else now."""
        super().load_state_dict(state_dict)
        self._below = []

    @torch.no_grad()
    def _descend(self) -> None:
        if self._below:
            climbed, before = ([pair[place] for pair in self._below] for place in (0, 1))
            torch._foreach_zero_(climbed)  # `_foreach_copy_` does not know weights that are shared out (FSDP2)
            torch._foreach_add_(climbed, before)
            self._below = []
