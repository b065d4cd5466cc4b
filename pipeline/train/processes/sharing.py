"""How processes learn with one network: each has all of it (DDP). `shards` has the other way.

Each computes its part of a batch, and the gradient is the mean over the parts. Batch normalisation sees the whole batch
on GPUs; on processors, where torch cannot do so, each process normalises its part by itself, as accumulation does, and
the statistics that are kept are those of the first process.

Source: Li et al. PyTorch Distributed: Experiences on Accelerating Data Parallel Training, 2020.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from pipeline.train.copies import copied
from pipeline.train.learner import Learner
from pipeline.train.processes.ranks import Ranks
from pipeline.train_options import ComputeOptions

if TYPE_CHECKING:
    from pipeline.train.machine import Arithmetic


def sharing_of(compute: ComputeOptions, ranks: Ranks) -> Sharing:
    """How a network is shared with these processes."""
    if compute.sharded and ranks.count > 1:
        from pipeline.train.processes.shards import Shards  # a second of imports

        return Shards(ranks)
    return Sharing(ranks)


class Sharing:
    """A network of which each process has all; with one process, nothing is shared."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def able(self, arithmetic: Arithmetic) -> Arithmetic:
        """The same arithmetic, or as much of it as this way of sharing is able to."""
        return arithmetic

    def arrange(self, learner: Learner, memory_format: torch.memory_format, device: torch.device) -> None:
        """Bring a learner to the device and make it ready, before an optimizer is built over its weights."""
        learner.to(device)
        learner.arrange(memory_format)
        self.synchronise(learner, device)

    def synchronise(self, learner: Learner, device: torch.device) -> None:
        """Have batch normalisation see the whole batch, where torch can do so."""
        if self.ranks.count == 1 or device.type != "cuda":
            return
        from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct  # half a second of imports

        # Not by the converters of torch and timm: they build each norm anew. That of torch leaves out the activation
        # that timm has in some, and both fail at one whose weight does not learn, as airbench has them.
        for norm in learner.modules():
            if isinstance(norm, _BatchNorm):
                norm.process_group = None  # type: ignore[assignment]
                norm.__class__ = SyncBatchNormAct if isinstance(norm, BatchNormAct2d) else nn.SyncBatchNorm

    def called(self, module: nn.Module, device: torch.device) -> nn.Module:
        """What a step calls in place of a module, so that gradients are averaged over the processes.

        Some weights may be left out of a step, or rest for some epochs. To allow that also leaves the order in which
        gradients are added up what it was at the first step: a run that goes on from a checkpoint gets the same bits.
        """
        if self.ranks.count == 1:
            return module
        # The gradient of a filter over one channel can be said to lie in two ways that are the same.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the new name is not that of torch 2.11
            return DistributedDataParallel(
                module,
                device_ids=[device.index] if device.type == "cuda" else None,
                broadcast_buffers=False,  # see `Ranks.give_buffers`
                find_unused_parameters=True,
                gradient_as_bucket_view=True,
            )

    def part(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Compute a part of this process's share of a batch; with the last one gradients are averaged."""
        if last or not isinstance(module, DistributedDataParallel):
            return nullcontext()
        return module.no_sync()

    def whole(self, state: dict[str, Any]) -> dict[str, Any]:
        """A state as one process alone would have it, on the processor and in memory of its own.

        All processes ask for it together, and the first one gets it; that of the others is empty.
        """
        return copied(state) if self.ranks.first else {}

    def shared_out(self, state: Any, like: Any) -> Any:
        """The reverse: of such a state what this process holds, as it holds `like`."""
        return state

    def optimizer_shared_out(self, state: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
        """The same of the state of an optimizer, which may have none yet."""
        return state

    def free(self, learner: Learner) -> None:
        """Give up the memory of weights that nobody needs any more, if a whole network may not fit in beside them."""

    def let_go(self, learner: Learner) -> None:
        """After the network was asked without learning: keep what this process has of it, and no more."""
