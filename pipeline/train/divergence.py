"""A training whose loss is no number any more: the very step at which that began, and the pictures that it saw.

Losses are read some steps late, when the weights are gone. But every step is a function of what it starts from, so the
steps since the last checkpoint are taken once more, and each is looked at before it moves a weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.files import replacing_folder, write_json, write_rows
from pipeline.train.assembly import Training
from pipeline.train.batches import Batch
from pipeline.train.copies import tensors_in
from pipeline.train.losses_of_views import losses_of_views
from pipeline.train.machine import Machine, Pace
from pipeline.train.norms import ALL, gradient_norms
from pipeline.train.steps import entered, go_back

FOLDER = "diverged"
"""In the folder of the training, until that starts over."""
LEAST_SCALE = 2.0**-4
"""Of the loss: float16 begins with 65536 and halves it at each gradient that overflows, so 20 of them did so."""


class Diverged(Exception):
    """A loss or a weight is no number."""


@dataclass(frozen=True)
class Found:
    """Where a training diverged."""

    epoch: int
    """0-based."""
    step: int
    """Within the epoch, 0-based."""
    rate: float
    """The learning rate of that step."""
    loss: float
    what: str
    """What of the step was the first that is no number, in words."""
    norms: dict[str, float]
    """Of its gradient, by layer."""
    norms_before: dict[str, float]
    """Those of the last step before it that were measured; empty: there are none."""
    losses: np.ndarray
    """Of each picture by itself, with the weights before the step, float64 [B]."""
    folder: Path
    """Where its pictures are."""

    def words(self, steps: int) -> str:
        """Two lines, after whose they are; `steps` has an epoch."""
        bad = int((~np.isfinite(self.losses)).sum())
        alone = f"; by themselves {bad} of them have a loss that is no number" if 0 < bad < len(self.losses) else ""
        return (
            f"diverged in epoch {self.epoch + 1}, step {self.step + 1} of {steps}, at a learning rate of "
            f"{self.rate:g}: {self.what}.\nIts pictures, with the loss of each, and the norm of the gradient in each "
            f"layer are in {self.folder}{alone}."
        )


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
    """Make sure that every weight is a number.

    Raises:
        Diverged: one is none.
    """
    if not _finite(weights.detach() for weights in machine.learner.parameters() if weights.requires_grad):
        raise Diverged


def examined(training: Training) -> Found | None:
    """Take the steps since the last checkpoint once more, up to the one that diverges; None: none does.

    The training stands before that step, at its gradient. Its pictures are written to `FOLDER`.
    """
    go_back(training)
    machine, progress, way = training.machine, training.progress, entered(training)
    epoch = progress.epoch
    folder = training.checkpoints.folder / FOLDER
    losses, before = list(progress.losses), (progress.norms or [progress.first_norms])[-1]
    with closing(training.source.epoch(epoch, progress.step, way.order)) as batches:  # type: ignore[type-var]
        for index, batch in enumerate(batches, start=progress.step):
            pace, last = way.paces[index], index + 1 == len(way.paces)
            skipped = last and not any(map(math.isfinite, losses))
            loss, norms, what = _taken(machine, batch, pace, skipped)
            losses.append(loss)
            if what:
                costs = losses_of_views(machine, [batch]) if batch.pictures.dtype == torch.uint8 else np.empty(0)
                found = Found(epoch, index, pace.rate, loss, what, norms, before, costs, folder)
                _write(found, training, batch)
                return found
            before = norms
    return None


def _taken(machine: Machine, batch: Batch, pace: Pace, skipped: bool) -> tuple[float, dict[str, float], str]:
    """Take a step, unless it diverges: then weights and statistics are as before.

    Args:
        machine: in training mode.
        batch: to learn from.
        pace: of the step.
        skipped: whether it is the last one of its epoch, and float16 has skipped all others.

    Returns:
        Its loss, the norms of its gradient by layer, and what of it is no number, in words; empty: all is one.
    """
    weights, buffers = list(machine.learner.parameters()), list(machine.learner.buffers())
    before, statistics = _copies(weights), _copies(buffers)
    loss = machine.backward(batch, pace.seed).item()
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
        return f"the loss is {loss:g}, but its gradient is no number from layer {layer} on, back to the pictures"
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
    """The first layer whose output is no number, as the network calls it; empty: all outputs are numbers."""
    learner, found = machine.feed, list[str]()

    def look(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            if not found and not _finite(tensors_in(output)):
                found.append(name)

        return hook

    handles = [
        module.register_forward_hook(look(name)) for name, module in learner.network.named_modules(prefix="") if name
    ]
    pictures, targets = batch.pictures.to(machine.device), batch.targets.to(machine.device)
    torch.manual_seed(seed)
    try:
        with torch.no_grad(), machine.arithmetic.autocast(machine.device):
            for part in machine.parts(pictures, targets, seed):
                learner(*part)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else ""


def _finite(tensors: Iterable[Tensor]) -> bool:
    held = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    if not held or torch.stack([norm.float() for norm in torch._foreach_norm(held)]).isfinite().all():
        return True
    return all(bool(tensor.isfinite().all()) for tensor in held)  # squares overflow before numbers do


def _write(found: Found, training: Training, batch: Batch) -> None:
    """Keep a step's pictures, as they were varied and before any were blended, and what is known of it."""
    train, views = training.train, [] if batch.views is None else batch.views.tolist()
    sources = training.member.train.samples.column("source")
    rows: list[Sequence[object]] = []
    with replacing_folder(found.folder) as folder:
        if len(found.losses):
            for row, (picture, view, loss) in enumerate(
                zip(batch.pictures.cpu().numpy(), views, found.losses, strict=True)
            ):
                file = f"{row:04d}.png"
                Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(folder / file)
                rows.append([file, train.ids[view], f"{loss:g}", sources[int(train.images[view])].as_py()])
        write_rows(folder / "pictures.csv", ["file", "id", "loss", "source"], rows)
        norms = [[layer, _said(norm), found.norms_before.get(layer, "")] for layer, norm in found.norms.items()]
        write_rows(folder / "norms.csv", ["layer", "norm", "norm_before"], norms)
        write_json(
            folder / "step.json",
            {
                "epoch": found.epoch + 1,
                "step": found.step + 1,
                "learning_rate": found.rate,
                "loss": _said(found.loss),
                "what": found.what,
                "gradient_norms": {layer: _said(norm) for layer, norm in found.norms.items()},
            },
        )


def _said(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)
