"""Training pictures that lie on the device and are varied there, many at once: nothing is left for the processor to do.

Source: Jordan. 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, section 3.1, where an epoch is varied in one go.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pipeline import host
from pipeline.errors import UserError
from pipeline.params import TrainParams
from pipeline.policy import Policy
from pipeline.train.batches import Batch, Material, TrainingBatches, mosaic_epochs, slices, steps_per_epoch
from pipeline.train.processes.ranks import Ranks
from pipeline.train.varied import Asked
from pipeline.variations import draws
from pipeline.variations.device import sent, vary
from pipeline.variations.plan import Plan

PORTION = 2**25
"""Values of pictures that are varied at once: 10,000 pictures of 32 px, 222 of 224 px. A value takes up to 32 bytes on
the way."""
LOADED = 1024
"""Entries that are copied to the device at once."""
SHARE = 3
"""Pictures take a third of the device's memory at most; the rest is for the network."""


class ResidentBatches:
    """Augmented batches of a training split, as `TrainingBatches` gives them, on the device."""

    def __init__(
        self,
        material: Material,
        policy: Policy,
        plan: Plan,
        seed: int,
        batch_size: int,
        device: torch.device,
        ranks: Ranks | None = None,
    ) -> None:
        """See `TrainingBatches`; `plan` is the policy as the device carries it out."""
        self._plan = plan
        self._seed = seed
        self._keys = draws.keys(material.ids)
        self._pictures, self._targets = _loaded(material.pictures, device), _loaded(material.targets, device)
        self._whole = min(batch_size, len(material))
        self._share = (ranks or Ranks()).share(self._whole)
        self._size = self._share.stop - self._share.start
        self.steps = steps_per_epoch(len(material), batch_size)
        self._portion = max(1, PORTION // (self._size * policy.size**2 * policy.channels))

    def epoch(self, epoch: int, first: int, order: np.ndarray) -> Iterator[Batch]:
        """The batches of an epoch from step `first` on, of the views in that order, int64 [V]."""
        mine = np.arange(first * self._whole, self.steps * self._whole).reshape(-1, self._whole)[:, self._share].ravel()
        turns = Asked.all_of(epoch, order).turns[mine]
        for portion in slices(len(mine), self._portion * self._size):
            which = order[mine[portion]]
            keys = draws.again(self._keys[which], turns[portion])
            pictures = vary(self._plan, self._pictures, which, self._plan.drawn(keys, self._seed, epoch))
            targets = self._targets[sent(which, self._targets.device)]
            for part in slices(len(which), self._size):
                yield Batch(pictures[part], targets[part], which[part])

    def close(self) -> None:
        """Let the pictures go: the next member of an ensemble has its own."""
        self._pictures = self._targets = torch.empty(0)


def open_batches(
    params: TrainParams, material: Material, policy: Policy, device: torch.device, ranks: Ranks | None = None
) -> TrainingBatches | ResidentBatches:
    """The input path of a training, on the device where that is possible and asked for.

    Args:
        params: of the training.
        material: the training split.
        policy: by which its pictures are varied.
        device: of this process.
        ranks: the processes that share every batch; None: there is one.

    Raises:
        UserError: `compute.pictures` is `device`, and this policy, task or device does not allow it; or the processes
            cannot share a batch.
    """
    ranks = ranks or Ranks()
    asked, batch_size = params.compute.pictures, params.train.batch_size
    if asked == "device" or (asked == "auto" and device.type != "cpu"):
        plan = Plan.read(policy.transforms, policy.packed, policy.channels, material.learns, policy.alternates)
        obstacle = _obstacle(material, policy, plan, device)
        if plan and not obstacle:
            return ResidentBatches(material, policy, plan, params.seed, batch_size, device, ranks)
        if asked == "device":
            raise UserError(
                f"params.yaml: compute.pictures is 'device', but {obstacle}.\n"
                "Set it to host or auto; the batches are the same, but for rounding."
            )
    threads = params.compute.loader_threads or max(1, host.cores() // ranks.count)
    mosaics = mosaic_epochs(params.train.epochs)
    return TrainingBatches(material, policy, params.seed, batch_size, threads, mosaics, ranks)


def _obstacle(material: Material, policy: Policy, plan: Plan | None, device: torch.device) -> str:
    """Why the pictures cannot lie on the device; empty if they can."""
    if material.learns.located:
        return f"what is learnt, {material.learns}, moves with the pixels, which is done on the host alone"
    if policy.mosaic:
        return "mosaics of four pictures are put together on the host alone"
    if plan is None:
        return "the augmentation policy has transforms that are done on the host alone"
    needed, room = material.pictures.nbytes, memory(device) // SHARE
    if needed > room:
        return (
            f"the training pictures take {needed / 2**30:.1f} GiB, and a third of the memory of {device} is "
            f"{room / 2**30:.1f} GiB"
        )
    return ""


def _loaded(array: np.ndarray, device: torch.device) -> Tensor:
    """An array on the device; one that is mapped into memory is read in parts, so that no copy of all of it is made."""
    loaded = torch.empty(array.shape, dtype=torch.from_numpy(np.array(array[:0])).dtype, device=device)
    for part in slices(len(array), LOADED):
        loaded[part] = torch.from_numpy(np.array(array[part]))
    return loaded


def memory(device: torch.device) -> int:
    """Bytes of a device, or as many as this process may have, in use or free.

    What is free differs from run to run, and with it the last bits would.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "mps":
        return torch.mps.recommended_max_memory()
    return host.memory()
