"""Statistics of batch normalisation, measured anew for weights that are the mean of others.

Source: Izmailov et al. Averaging Weights Leads to Wider Optima and Better Generalization, 2018; as
`torch.optim.swa_utils.update_bn` does it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.train.assembly import Training
from pipeline.train.learner import counted
from pipeline.train.orders import epoch_order

MOST = 200
"""Batches that are looked at: the statistics of some ten thousand pictures are those of all."""


def refresh_average(training: Training) -> None:
    """Let the average of weights, if it asks for it, have statistics from the training pictures of the epoch that ends.

    They are seen as in that epoch, but at full size and unblended.
    """
    params, machine, epoch = training.params, training.machine, training.progress.epoch
    averaged = machine.average.weights() if machine.average and machine.average.refreshes else None
    if averaged is None:
        return

    def see() -> None:
        order = epoch_order(params.order, params.seed, epoch, params.train.epochs, training.known)
        with closing(training.batches.epoch(epoch, 0, order)) as batches:  # type: ignore[type-var]
            for batch in islice(batches, MOST):
                pictures, targets = batch.pictures.to(machine.device), batch.targets.to(machine.device)
                machine.learner(*machine.learner.prepared(pictures, targets))

    torch.manual_seed(counted(params.seed, "refresh", epoch))
    with machine.averaged(), machine.arithmetic.autocast(machine.device):
        for name, statistics in refreshed(machine.learner.network, see).items():
            averaged[name].copy_(machine.sharing.ranks.mean(statistics))  # each process saw its part of each batch
        machine.sharing.let_go(machine.learner)


def refreshed(network: nn.Module, see: Callable[[], None]) -> dict[str, Tensor]:
    """Give a network the mean statistics of some batches.

    Args:
        network: in training mode; its weights are not moved. Layers in evaluation mode keep their statistics.
        see: lets it see the batches; not called where there is nothing to measure.

    Returns:
        The statistics, by their names in the network's state.
    """
    norms = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module.training
    }
    momenta = {name: norm.momentum for name, norm in norms.items()}
    for norm in norms.values():
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    try:
        if norms:
            with torch.no_grad():
                see()
    finally:
        for name, norm in norms.items():
            norm.momentum = momenta[name]
    return {f"{name}.{key}": buffer for name, norm in norms.items() for key, buffer in norm.named_buffers()}
