"""A training whose loss is no number any more: the very step at which that began, and the pictures that it saw.

Losses are read some steps late, when the weights are gone. But every step is a function of what it starts from, so the
steps since the last checkpoint are taken once more, and each is looked at before it moves a weight. Several processes
take them together and go by what all of them see, so that each comes to the same decision at the same step.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.train.assembly import Training
from pipeline.train.batches import Batch
from pipeline.train.copies import tensors_in
from pipeline.train.evidence import FOLDER, Found, keep
from pipeline.train.learner import Compared, Learner
from pipeline.train.losses_of_views import losses_of_views
from pipeline.train.machine import Machine, Pace
from pipeline.train.norms import ALL, gradient_norms
from pipeline.train.steps import entered, go_back
from pipeline.wording import short

LEAST_SCALE = 2.0**-4
"""Of the loss: float16 begins with 65536 and halves it at each gradient that overflows, so 20 of them did so."""


class Diverged(Exception):
    """A loss or a weight is no number."""


def check_losses(machine: Machine, losses: Sequence[float]) -> None:
    """Make sure that some steps were steps; float16 skips those that overflow, and goes on with a smaller scale.

    Raises:
        Diverged: a loss is no number, or no scale is small enough.
    """
    if machine.scaler.is_enabled():
        if machine.scaler.get_scale() < LEAST_SCALE:
            raise Diverged
    elif not all(map(math.isfinite, losses)):
        raise Diverged


def check_epoch(losses: Iterable[float]) -> None:
    """Make sure that at least one step of an epoch was a step.

    Raises:
        Diverged: no loss is a number.
    """
    if not any(map(math.isfinite, losses)):
        raise Diverged


def check_weights(machine: Machine) -> None:
    """Make sure that every weight is a number; several processes ask together, and hear of each other's.

    Raises:
        Diverged: one is none, in any process.
    """
    weights = (each.detach() for each in machine.learner.parameters() if each.requires_grad)
    # Of weights that processes share out, what this one has of them.
    own = (each.to_local() if hasattr(each, "to_local") else each for each in weights)
    if any(machine.sharing.ranks.most(not _finite(own))):
        raise Diverged


def examined(training: Training) -> Found | None:
    """Take the steps since the last checkpoint once more, up to the one that diverges; None: none does.

    The training stands before that step, at its gradient. Its pictures are written to `FOLDER`.
    """
    go_back(training)
    machine, progress, way = training.machine, training.progress, entered(training)
    epoch = progress.epoch
    losses, before = list(progress.losses), (progress.norms or [progress.first_norms])[-1]
    with closing(training.source.epoch(epoch, progress.step, way.order)) as batches:  # type: ignore[type-var]
        for index, batch in enumerate(batches, start=progress.step):
            pace, last = way.paces[index], index + 1 == len(way.paces)
            skipped = last and not any(map(math.isfinite, losses))
            loss, norms, what = _taken(machine, batch, pace, skipped)
            losses.append(loss)
            if what:
                costs, folder = _costs(machine, batch), training.checkpoints.folder / FOLDER
                found = Found(epoch, index, pace.rate, loss, what, norms, before, costs, folder)
                keep(found, training, batch)
                return found
            before = norms
    return None


def _taken(machine: Machine, batch: Batch, pace: Pace, skipped: bool) -> tuple[float, dict[str, float], str]:
    """Take a step, unless it diverges: then weights and statistics are as before.

    Args:
        machine: in training mode.
        batch: to learn from; of several processes each has its part.
        pace: of the step.
        skipped: whether it is the last one of its epoch, and float16 has skipped all others.

    Returns:
        Its loss, the mean over the processes; the norms of its gradient by layer; and what of it is no number, in
        words; empty: all is one.
    """
    weights, buffers = list(machine.learner.parameters()), list(machine.learner.buffers())
    before, statistics = _copies(weights), _copies(buffers)
    loss = machine.sharing.ranks.mean(machine.backward(batch, pace.seed).float()).item()
    _put_back(weights, before)  # some optimizers climb for their gradient
    norms = gradient_norms(machine.learner)
    by_layer = norms.by_layer(norms.values.tolist())
    what = ""
    if not machine.scaler.is_enabled():
        what = _what(machine, batch, pace.seed, loss, by_layer)
    elif skipped and not math.isfinite(loss):
        what = f"as in every step of this epoch, {_what(machine, batch, pace.seed, loss, by_layer)}"
    if not what:
        machine.move(pace)
        what = _overflow(machine)
    if what:  # the step has spoilt them, and each picture is asked about by itself
        _put_back([*weights, *buffers], [*before, *statistics])
    return loss, by_layer, what


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _put_back(tensors: Sequence[Tensor], copies: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for tensor, was in zip(tensors, copies, strict=True):
            tensor.copy_(was)


def _what(machine: Machine, batch: Batch, seed: int, loss: float, norms: dict[str, float]) -> str:
    """What of a step's loss and gradient is no number, in words; empty: all is one."""
    if not math.isfinite(loss):
        layer = _first_layer(machine, batch, seed)
        return f"the loss is {loss}, and the first layer that gives no numbers is {layer or 'the loss itself'}"
    if not math.isfinite(norms[ALL]):
        # It comes from the loss, so it goes wrong first where it is furthest from the pictures.
        layer = next(layer for layer, norm in reversed(norms.items()) if not math.isfinite(norm))
        return f"the loss is {short(loss)}, but its gradient is no number from layer {layer} on, back to the pictures"
    return ""


def _overflow(machine: Machine) -> str:
    """What a step has made of the weights, in words; empty: they are numbers."""
    try:
        check_weights(machine)
    except Diverged:
        return "its gradient is finite, but the weights that it leads to are not"
    try:
        check_losses(machine, ())
    except Diverged:
        return "float16 has skipped step after step, because the gradient overflows however small the loss is scaled"
    return ""


def _first_layer(machine: Machine, batch: Batch, seed: int) -> str:
    """The first layer whose output is no number, as the network calls it; empty: all outputs are numbers.

    The parts of a batch, in this process and the others, are looked at beside each other: first is what is called
    first, whichever part it is in.
    """
    pictures, targets = batch.pictures.to(machine.device), batch.targets.to(machine.device)
    machine.reseed(seed)
    with torch.no_grad(), machine.arithmetic.autocast(machine.device):
        mine = [_first_call(machine.feed, *part) for part in machine.parts(pictures, targets, seed)]
    machine.sharing.let_go(machine.learner)
    calls = [call for theirs in machine.sharing.ranks.all_of(mine) for call in theirs if call]
    return min(calls)[1] if calls else ""


def _first_call(learner: Learner, seen: Tensor, compared: Compared) -> tuple[int, str] | None:
    """Which call of a layer is the first whose output is no number, 0-based, and the layer; None: there is none."""
    places, found = itertools.count(), list[tuple[int, str]]()

    def look(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            place = next(places)
            if not found and not _finite(tensors_in(output)):
                found.append((place, name))

        return hook

    handles = [
        module.register_forward_hook(look(name)) for name, module in learner.network.named_modules(prefix="") if name
    ]
    try:
        learner(seen, compared)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _costs(machine: Machine, batch: Batch) -> np.ndarray:
    """The loss of each picture of a batch by itself, those of all processes in order, float64 [B]; none of features."""
    if batch.pictures.dtype != torch.uint8:
        return np.empty(0)
    ranks = machine.sharing.ranks
    ranks.give_buffers(machine.learner)  # one network answers for all, as in validation
    return np.concatenate(ranks.all_of(losses_of_views(machine, [batch])))


def _finite(tensors: Iterable[Tensor]) -> bool:
    held = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    if not held or torch.stack([norm.float() for norm in torch._foreach_norm(held)]).isfinite().all():
        return True
    return all(bool(tensor.isfinite().all()) for tensor in held)  # squares overflow before numbers do
