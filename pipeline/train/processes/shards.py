"""How processes learn with a network that does not fit into one: each has a part of every tensor (FSDP2).

A layer is put together when it is needed, and its gradients, the optimizer's state and the average of weights are
parts, too. Checkpoints hold whole tensors, so that a training goes on with any number of processes, shared out or not.

Source: Zhao et al. PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel, 2023;
`torch.distributed.fsdp.fully_shard`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from pipeline.train.copies import mapped
from pipeline.train.layers import layers_of
from pipeline.train.learner import Learner
from pipeline.train.processes.sharing import Sharing

if TYPE_CHECKING:
    from pipeline.train.machine import Arithmetic

SMALLEST = 0.01
"""Share of all weights that a layer must have to be put together by itself; smaller ones are so together."""


class Shards(Sharing):
    """A network of whose tensors each process has a part."""

    def able(self, arithmetic: Arithmetic) -> Arithmetic:
        """See `Sharing.able`: float16 and the compiler need tensors whole, as an earlier run may have had them."""
        precision = "bfloat16" if arithmetic.precision == "float16" else arithmetic.precision
        return arithmetic._replace(precision=precision, execution="eager")

    def arrange(self, learner: Learner, memory_format: torch.memory_format, device: torch.device) -> None:
        """See `Sharing.arrange`; weights, which parts leave no say in how they lie, stay contiguous.

        The whole is on the processor, and comes to the device layer by layer, of which this process keeps its part.
        """
        learner.memory_format = memory_format
        self.synchronise(learner, device)
        mesh = init_device_mesh(device.type, (self.ranks.count,))
        enough = SMALLEST * sum(weights.numel() for weights in learner.parameters())
        for layer in layers_of(learner.network):
            for module in layer.modules:
                if sum(weights.numel() for weights in module.parameters()) >= enough:
                    fully_shard(module, mesh=mesh)
        fully_shard(learner, mesh=mesh)

    def called(self, module: nn.Module, device: torch.device) -> nn.Module:
        """See `Sharing.called`."""
        return module

    @contextmanager
    def part(self, module: nn.Module, last: bool) -> Iterator[None]:
        """See `Sharing.part`."""
        assert isinstance(module, FSDPModule)
        module.set_requires_gradient_sync(last)
        yield

    def whole(self, state: dict[str, Any]) -> dict[str, Any]:
        """See `Sharing.whole`; a device never has more than one tensor whole."""

        def put_together(tensor: Tensor) -> Tensor | None:
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            return whole.detach().to("cpu", copy=True) if self.ranks.first else None

        made: dict[str, Any] = mapped(state, put_together)
        return made if self.ranks.first else {}

    def shared_out(self, state: Any, like: Any) -> Any:
        """See `Sharing.shared_out`."""
        if isinstance(like, DTensor):
            return _part(state, like)
        if isinstance(state, dict) and isinstance(like, dict):
            made = copy.copy(state)
            made.update((key, self.shared_out(each, like.get(key))) for key, each in state.items())
            return made
        return state

    def optimizer_shared_out(self, state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
        """See `Sharing.optimizer_shared_out`; what has the shape of a weight is shared out as that is."""
        weights = [each for group in optimizer.param_groups for each in group["params"]]
        parts = {
            number: {
                name: _part(value, weights[number]) if _like(value, weights[number]) else value
                for name, value in kept.items()
            }
            for number, kept in state["state"].items()
        }
        return {**state, "state": parts}

    def free(self, learner: Learner) -> None:
        """See `Sharing.free`; an optimizer, and FSDP itself, go on to refer to the parts."""
        for weights in learner.parameters():
            assert isinstance(weights, DTensor)
            weights.to_local().untyped_storage().resize_(0)

    def let_go(self, learner: Learner) -> None:
        """See `Sharing.let_go`."""
        for module in learner.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def _like(value: Any, weight: Tensor) -> bool:
    return isinstance(value, Tensor) and isinstance(weight, DTensor) and value.shape == weight.shape


def _part(tensor: Tensor, like: DTensor) -> DTensor:
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
