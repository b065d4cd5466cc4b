"""The input path: threads write augmented uint8 pictures straight into batches that are allocated once.

Threads and not processes, because the work is done in libraries that release the interpreter lock, and nothing has to
be copied between processes. (Measured, 2 cores: `DataLoader` with 2 workers and float32 1,077 images/s; this 6,183.)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.contracts import Frame, Target
from pipeline.dataset import Split
from pipeline.images import center_crop
from pipeline.mosaics import Mosaics, rows
from pipeline.packed import TARGETS, packed, views
from pipeline.policy import Policy
from pipeline.transforms import Augmenter, sample_seed

AHEAD = 3
"""Batches that are filled while the network works on one."""


class Batch(NamedTuple):
    """Pictures and what is to be learnt from them."""

    pictures: Tensor
    """uint8 [B, S, S, C]; valid until the next batch is asked for."""
    targets: Tensor
    """What the task learns, B entries, as `contracts.Target` says; valid as long."""


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
    ) -> None:
        """`mosaic_epochs`: the first ones, which see mosaics if the policy has any; None: all do."""
        self._material = material
        self._policy = policy
        self._seed = seed
        self._mosaic_epochs = mosaic_epochs
        self._mosaics = Mosaics(material.pictures, material.targets, material.learns, policy.mosaic)
        self._size = min(batch_size, len(material))
        self.steps = steps_per_epoch(len(material), batch_size)
        self._threads = threads
        self._local = threading.local()
        # One batch is with the network while the others are filled.
        self._ring = [self._empty() for _ in range(AHEAD + 1)]
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="input")

    def epoch(self, epoch: int, first: int, order: np.ndarray) -> Iterator[Batch]:
        """The batches of an epoch from step `first` on, of the views in that order, int64 [V]."""
        waiting: deque[tuple[int, list[Future[None]]]] = deque()
        upcoming = iter(range(first, self.steps))
        try:
            for step in upcoming:
                waiting.append((step, self._start(epoch, order, step)))
                if len(waiting) > AHEAD:
                    yield self._finished(*waiting.popleft())
            while waiting:
                yield self._finished(*waiting.popleft())
        finally:
            for _, parts in waiting:  # the caller stopped early: let no thread write into a ring that is used again
                for part in parts:
                    part.cancel()
            for _, parts in waiting:
                for part in parts:
                    if not part.cancelled():
                        part.result()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _empty(self) -> Batch:
        """Room for a batch; the shape of a target is that which a picture has once it is varied."""
        material, policy, pinned = self._material, self._policy, torch.cuda.is_available()
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
        return Batch(pictures, targets)

    def _positions(self, order: np.ndarray, step: int) -> np.ndarray:
        return order[step * self._size : (step + 1) * self._size]

    def _start(self, epoch: int, order: np.ndarray, step: int) -> list[Future[None]]:
        batch = self._ring[step % len(self._ring)]
        positions = self._positions(order, step)
        return [
            self._pool.submit(self._fill, batch, positions, epoch, part)
            for part in np.array_split(np.arange(self._size), self._threads)
        ]

    def _fill(self, batch: Batch, positions: np.ndarray, epoch: int, part: np.ndarray) -> None:
        material, augment = self._material, getattr(self._local, "augment", None)
        if augment is None:
            augment = self._local.augment = Augmenter(self._policy.transforms, material.learns)
        pictures, targets = batch.pictures.numpy(), batch.targets.numpy()
        plain = self._mosaic_epochs is not None and epoch >= self._mosaic_epochs
        for row in part:
            position = positions[row]
            seed = sample_seed(self._seed, epoch, material.ids[position])
            pictures[row], targets[row] = augment(*self._mosaics.seen(position, None if plain else seed), seed)

    def _finished(self, step: int, parts: list[Future[None]]) -> Batch:
        for part in parts:
            part.result()
        return self._ring[step % len(self._ring)]


def mosaic_epochs(epochs: int) -> int:
    """How many of all epochs see mosaics: the last tenth of them, one at least, sees pictures as they will come.

    Source: Ge et al. YOLOX, 2021, section 2, where mosaics end 15 epochs before the last of 300.
    """
    return epochs - -(-epochs // 10)


def plain_batches(material: Material, policy: Policy, batch_size: int) -> Iterator[Batch]:
    """Every view of a split once, in order, its centre cropped and nothing varied."""
    for start in range(0, len(material), batch_size):
        seen = center_crop(material.pictures[start : start + batch_size], policy.size)
        targets = np.array(material.targets[start : start + batch_size])
        yield Batch(torch.from_numpy(np.array(seen)), torch.from_numpy(targets))
