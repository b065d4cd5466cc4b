"""How hard each training picture is for the network as it stands: for orders that begin with the easy ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pipeline.train.assembly import Training
from pipeline.train.batches import Batch, Material, plain_batches
from pipeline.train.learner import Learner
from pipeline.train.machine import Machine
from pipeline.training import Known


def known_now(training: Training) -> Known:
    """What an order may go by in the epoch that begins, or goes on: of what the views cost, it may ask to be told.

    That is measured when the epoch begins and kept with the progress: a run that is killed goes on in the same order.
    """
    params, progress = training.params, training.progress
    if progress.step == 0 and params.order.measures(progress.epoch, params.train.epochs):
        batches = plain_batches(plain_views(training), training.policy, params.train.batch_size)
        measured = losses_of_views(training.machine, batches)
        # The first process's: others have statistics of batch normalisation of their own.
        progress.view_losses = torch.from_numpy(training.ranks.agreed(measured))
    losses = progress.view_losses
    return replace(training.known, losses=None if losses is None else losses.numpy())


def plain_views(training: Training) -> Material:
    """The training views as `plain_batches` takes them: those of validation have the same side."""
    policy = training.policy
    if policy.plain == policy.packed:
        return training.train
    frame = policy.frame
    if frame.name == "tiles":  # of a side that is theirs as they are packed
        frame = frame.model_copy(update={"tile": frame.tile or policy.packed})
    return Material.of(training.member.train, frame, policy.plain)


def losses_of_views(machine: Machine, batches: Iterable[Batch]) -> np.ndarray:
    """The loss of each view by itself, float64 [V]: a function of the weights alone.

    Args:
        machine: with the network, which is left in evaluation mode.
        batches: of every view in order, nothing varied.
    """
    machine.learner.eval()
    machine.learner.loss.train()  # some do not compare with what they have learnt while they are not in training
    losses = []
    with torch.inference_mode():
        for batch in batches:
            with machine.arithmetic.autocast(machine.device):
                losses.append(_each(machine.learner, *batch.on(machine.device)).double())
    machine.sharing.let_go(machine.learner)
    measured: np.ndarray = torch.cat(losses).cpu().numpy()  # the one wait for the device
    return measured


def _each(learner: Learner, pictures: Tensor, targets: Tensor) -> Tensor:
    """The losses of a batch, [B]."""
    seen, compared = learner.prepared(pictures, targets)
    _, learnt = learner(seen, compared)
    # Losses are means over a batch, each in its own way, so every view is a batch by itself. What detectors learn from
    # cannot be taken apart, and goes through the network view by view.
    if isinstance(learnt, Tensor):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")  # of what vmap takes one by one after all
            costs: Tensor = torch.vmap(learner.loss)(learnt.float()[:, None], targets[:, None])
        return costs
    parts = ((seen[row : row + 1], [(targets[row : row + 1], 1.0)]) for row in range(len(seen)))
    return torch.stack([learner(*part)[0] for part in parts])
