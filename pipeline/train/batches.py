"""The input path: threads write augmented uint8 pictures straight into batches that are allocated once.

Threads and not processes, because the work is done in libraries that release the interpreter lock, and nothing has to
be copied between processes. (benchmarks/input_path.py, 2 cores: `DataLoader` with 2 workers and float32 1,298 images/s;
this 11,437.)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.contracts import Frame, Target
from pipeline.dataset import Split
from pipeline.images import center_crop
from pipeline.mosaics import rows
from pipeline.packed import TARGETS, packed, views
from pipeline.policy import Policy
from pipeline.train.processes.ranks import Ranks
from pipeline.train.varied import Asked, Recipe, varied

AHEAD = 3
"""Batches that are filled while the network works on one."""


class Batch(NamedTuple):
    """Pictures and what is to be learnt from them."""

    pictures: Tensor
    """uint8 [B, S, S, C]; valid until the next batch is asked for, and to a GPU that was sent them by `on` longer."""
    targets: Tensor
    """What the task learns, B entries, as `contracts.Target` says; valid as long."""
    views: np.ndarray | None = None
    """Which they are: positions in the training split, int64 [B]; None of others."""
    reading: list[torch.cuda.Event] | None = None
    """Of one whose memory is filled again: what a GPU has to come by before that; None of others."""

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Pictures and targets on a device.

        A GPU fetches them in its turn, and nobody waits for that. Memory that is filled again is left as it is until
        then: the event stands behind both copies in the one queue that they are in, and `TrainingBatches` waits for it
        before it writes. Memory that is pinned here torch gives to nobody else before its copy is done. Pinned memory
        of which no copies are noted, as a part of a batch, is waited for.
        """
        if device.type != "cuda" or self.pictures.is_cuda:
            return self.pictures.to(device), self.targets.to(device)
        pictures, targets = (
            each.pin_memory().to(device, non_blocking=self.reading is not None or not each.is_pinned())
            for each in (self.pictures, self.targets)
        )
        if self.reading is not None:
            event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # who waits for it sleeps
            event.record(torch.cuda.current_stream(device))
            self.reading[:] = [event]  # it stands behind those before it, too
        return pictures, targets


@dataclass(frozen=True)
class Material:
    """A split as the loop reads it: the views of its pictures, one or, of tiles, several of each."""

    ids: list[str]
    """Of each view."""
    pictures: np.ndarray
    """Packed, uint8 [V, P, P, C]."""
    targets: np.ndarray
    """What is known of each view, V entries."""
    learns: Target
    images: np.ndarray
    """The image that each view shows, int64 [V]."""

    @classmethod
    def of(cls, split: Split, frame: Frame, side: int) -> Material:
        """The split with its pictures and targets, packed at P = `side`."""
        images = views(split, frame, side).images
        seen = images.tolist()
        ids = list(split.ids)
        if len(seen) > len(ids):
            first = np.searchsorted(seen, np.arange(len(ids)))
            ids = [f"{ids[image]}/{view - first[image]}" for view, image in enumerate(seen)]
        learns = Target[split.dataset.info.learns]
        return cls(ids, packed(split, frame, side), TARGETS[learns](split, frame, side), learns, images)

    def __len__(self) -> int:
        return len(self.ids)


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Full batches only, so that every step costs the same; the few images left over differ each epoch."""
    return max(1, count // batch_size)


Waiting = deque[tuple[Batch, list[Future[None]]]]
"""Batches, each with its parts that threads fill, in the order in which they are asked for."""


class TrainingBatches:
    """Augmented batches of a training split, in an order and with pixels that the seed alone decides."""

    def __init__(
        self,
        material: Material,
        policy: Policy,
        seed: int,
        batch_size: int,
        threads: int,
        mosaic_epochs: int | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """Of all batches, or the part of each that falls to this one of several processes.

        Args:
            material: the split.
            policy: by which its pictures are varied.
            seed: of the run.
            batch_size: of whole batches.
            threads: that fill them.
            mosaic_epochs: the first ones, which see mosaics if the policy has any; None: all do.
            ranks: the processes; None: there is one.
        """
        self._material = material
        self._recipe = recipe_of(material, policy, seed, mosaic_epochs)
        self._whole = min(batch_size, len(material))
        self._share = (ranks or Ranks()).share(self._whole)
        self._size = self._share.stop - self._share.start
        self.steps = steps_per_epoch(len(material), batch_size)
        self._threads = threads
        self._local = threading.local()
        # One batch is with the network while the others are filled.
        self._ring = [self._empty() for _ in range(AHEAD + 1)]
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="input")

    def epoch(self, epoch: int, first: int, order: np.ndarray) -> Iterator[Batch]:
        """The batches of an epoch from step `first` on, of the views in that order, int64 [V]."""
        asked = Asked.all_of(epoch, order)
        waiting: Waiting = deque()
        upcoming = iter(range(first, self.steps))
        try:
            for step in upcoming:
                waiting.append(self._start(asked, step))
                if len(waiting) > AHEAD:
                    yield _finished(waiting)
            while waiting:
                yield _finished(waiting)
        finally:
            # The caller stopped early, or a part failed: let no thread write into a ring that is used again.
            unfinished = [part for _, parts in waiting for part in parts]
            for part in unfinished:
                part.cancel()
            wait(unfinished)

    def close(self) -> None:
        """End the threads, and let go of the batches that they fill: the next member of an ensemble has its own."""
        self._pool.shutdown(cancel_futures=True)
        self._ring = []

    def _empty(self) -> Batch:
        """Room for a batch; the shape of a target is that which a picture has once it is varied."""
        material, policy, pinned = self._material, self._recipe.policy, torch.cuda.is_available()
        pictures = torch.empty(
            (self._size, policy.size, policy.size, policy.channels), dtype=torch.uint8, pin_memory=pinned
        )
        example = material.targets[:1]
        if material.learns in (Target.MASK, Target.INSTANCES):
            example = example[:, : policy.size, : policy.size]
        kind, shape = torch.from_numpy(np.array(example)).dtype, example.shape[1:]
        if material.learns is Target.OBJECTS:
            shape = (rows(shape[0], policy.mosaic, material.learns), *shape[1:])
        targets = torch.empty((self._size, *shape), dtype=kind, pin_memory=pinned)
        return Batch(pictures, targets, reading=[])

    def _start(self, asked: Asked, step: int) -> tuple[Batch, list[Future[None]]]:
        mine = asked.at(slice(step * self._whole, (step + 1) * self._whole)).at(self._share)
        batch = self._ring[step % len(self._ring)]._replace(views=mine.positions)
        assert batch.reading is not None
        reading = batch.reading.copy()
        batch.reading.clear()
        return batch, [
            self._pool.submit(self._fill, batch, mine, part, reading)
            for part in slices(self._size, -(-self._size // self._threads))
        ]

    def _fill(self, batch: Batch, asked: Asked, part: slice, reading: Sequence[torch.cuda.Event]) -> None:
        if not hasattr(self._local, "varied"):
            self._local.varied = varied(self._recipe)
        for event in reading:
            event.synchronize()
        pictures, targets = batch.pictures.numpy()[part], batch.targets.numpy()[part]
        self._local.varied.fill(asked.at(part), pictures, targets)


def _finished(waiting: Waiting) -> Batch:
    """The first batch, once it is filled; one that cannot be filled stays where it is."""
    batch, parts = waiting[0]
    for part in parts:
        part.result()
    waiting.popleft()
    return batch


def recipe_of(material: Material, policy: Policy, seed: int, mosaic_epochs: int | None) -> Recipe:
    """How the pictures of a training split are varied: see `TrainingBatches`."""
    return Recipe(material.pictures, material.targets, material.learns, material.ids, policy, seed, mosaic_epochs)


def slices(count: int, length: int) -> list[slice]:
    """0..count-1 in parts of that length; the last may be shorter."""
    return [slice(start, min(start + length, count)) for start in range(0, count, length)]


def mosaic_epochs(epochs: int) -> int:
    """How many of all epochs see mosaics: the last tenth of them, one at least, sees pictures as they will come.

    Source: Ge et al. YOLOX, 2021, section 2, where mosaics end 15 epochs before the last of 300.
    """
    return epochs - -(-epochs // 10)


def plain_batches(material: Material, policy: Policy, batch_size: int) -> Iterator[Batch]:
    """Every view of a split once, in order, as `plain_batch` has them."""
    return (plain_batch(material, policy, part) for part in slices(len(material), batch_size))


def plain_batch(material: Material, policy: Policy, part: slice) -> Batch:
    """Some views of a split, the centre of each cropped and nothing varied."""
    seen = center_crop(material.pictures[part], policy.size)
    return Batch(torch.from_numpy(np.array(seen)), torch.from_numpy(np.array(material.targets[part])))
