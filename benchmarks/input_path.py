"""The input path beside a `DataLoader` that does the same: images a second, and processor time of each image.

    .venv/bin/python benchmarks/input_path.py --pairs 5

512 packed pictures of 256 x 256 pixels, which lie in memory, with a class each, ten boxes, five points or a mask; a
random part resized to 224 and mirrored, and in all rows but the first another light. The peer is torch's `DataLoader`
with two workers over the same Albumentations transforms (as `pipeline.transforms` calls them, which seeds each picture
for 8 us), float32 out; ours gives bytes, which are made floats on the device. The sides take turns (A B, B A, ...) in
one call, each until it has seen its share of pictures; the figure is the median over pairs, with the smallest and the
largest. Processor time is that of the process and of the workers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.contracts import Frame, Target  # noqa: E402
from pipeline.plugin import config_class  # noqa: E402
from pipeline.policy import Policy  # noqa: E402
from pipeline.train.batches import Material, TrainingBatches  # noqa: E402
from pipeline.transforms import Augmenter, resolve, sample_seed  # noqa: E402

COUNT, SIZE, BATCH, OBJECTS, POINTS = 512, 224, 32, 10, 5
EPOCHS = {"ours": 6, "theirs": 2}
"""That a side takes in its turn: two seconds or so."""
CASES = {
    "crop, mirror": (Target.LABEL, 2),
    "and light": (Target.LABEL, 3),
    "with masks": (Target.MASK, 3),
    "with boxes": (Target.OBJECTS, 3),
    "with points": (Target.POINTS, 3),
}
"""What is learnt, and the first so many transforms of `standard`."""


class Found(NamedTuple):
    """What a side did in its turn."""

    rate: float
    """Images a second."""
    cost: float
    """Milliseconds of processor time for an image."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="of turns (default 5)")
    pairs = parser.parse_args().pairs
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {pairs}, smallest and largest of ratios")
    print(f"{'':<14}{'images/s':>10}{'peer':>8}{'ratio':>22}{'ms each':>12}{'peer':>8}{'share':>20}")
    for name, (learns, transforms) in CASES.items():
        material, policy = _material(learns, transforms)
        sides = {"ours": _ours(material, policy), "theirs": _theirs(material, policy)}
        for side, run in sides.items():
            _turn(run, side)  # threads and workers are up then
        found: dict[str, list[Found]] = {"ours": [], "theirs": []}
        for number in range(pairs):
            for side in list(sides)[:: 1 if number % 2 == 0 else -1]:
                found[side].append(_turn(sides[side], side))
        for run in sides.values():
            run.close()
        _print(name, found["ours"], found["theirs"])
    print(f"load {os.getloadavg()[0]:.1f}")


def _print(name: str, ours: list[Found], theirs: list[Found]) -> None:
    rates = [mine.rate / peer.rate for mine, peer in zip(ours, theirs, strict=True)]
    costs = [mine.cost / peer.cost for mine, peer in zip(ours, theirs, strict=True)]
    mine, peer = ([statistics.median(column) for column in zip(*side, strict=True)] for side in (ours, theirs))
    ratio, share = (f"{statistics.median(each):.2f} ({min(each):.2f}..{max(each):.2f})" for each in (rates, costs))
    line = f"{name:<14}{mine[0]:>10.0f}{peer[0]:>8.0f}{ratio:>22}{mine[1]:>12.3f}{peer[1]:>8.3f}{share:>20}"
    print(line, flush=True)


def _turn(run: Iterator[Iterator[Any]], side: str) -> Found:
    start, used, images = time.perf_counter(), _used(), 0
    for _ in range(EPOCHS[side]):
        for batch in next(run):
            assert batch[0].shape[0] == BATCH
            images += BATCH
    assert images == COUNT * EPOCHS[side]  # both see every picture
    return Found(images / (time.perf_counter() - start), 1000 * (_used() - used) / images)


def _used() -> float:
    """Seconds of processor time so far, of this process and its workers."""
    here = psutil.Process()
    times = [process.cpu_times() for process in (here, *here.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _material(learns: Target, transforms: int) -> tuple[Material, Policy]:
    options = config_class("policies", "standard").model_validate({"size": SIZE})
    spec = resolve(options.transforms(learns.located)[:transforms], options.packed, SIZE, 3, learns)
    side, random = options.packed, np.random.default_rng(0)
    pictures = random.integers(0, 256, (COUNT, side, side, 3), dtype=np.uint8)
    targets: np.ndarray = np.arange(COUNT)
    if learns is Target.MASK:
        targets = random.integers(0, 10, (COUNT, side, side), dtype=np.uint8)
    if learns is Target.OBJECTS:
        corners = random.integers(0, side - 60, (COUNT, OBJECTS, 2))
        sizes = random.integers(20, 60, (COUNT, OBJECTS, 2))
        labels = random.integers(0, 10, (COUNT, OBJECTS, 1))
        targets = np.concatenate([corners, corners + sizes, labels, 0 * labels], axis=2).astype(np.float32)
    if learns is Target.POINTS:
        places = random.integers(0, side, (COUNT, POINTS, 2))
        about = np.tile(np.stack([np.ones(POINTS), np.arange(POINTS)], axis=1), (COUNT, 1, 1))
        targets = np.concatenate([places, about], axis=2).astype(np.float32)
    frame = Frame.model_validate("pad")
    policy = Policy(
        channels=3, frame=frame, packed=side, size=SIZE, mean=[0.5] * 3, deviation=[0.25] * 3, transforms=spec
    )
    ids = [f"{row:064x}" for row in range(COUNT)]
    return Material(ids, pictures, targets, learns, np.arange(COUNT)), policy


def _ours(material: Material, policy: Policy) -> Iterator[Iterator[Any]]:
    batches = TrainingBatches(material, policy, 0, BATCH, os.cpu_count() or 1)
    epoch = 0
    try:
        while True:
            yield batches.epoch(epoch, 0, np.random.default_rng(epoch).permutation(COUNT))
            epoch += 1
    finally:
        batches.close()


def _theirs(material: Material, policy: Policy) -> Iterator[Iterator[Any]]:
    loader = torch.utils.data.DataLoader(
        _Pictures(material, policy), BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    while True:
        yield iter(loader)


class _Pictures(torch.utils.data.Dataset[Any]):
    def __init__(self, material: Material, policy: Policy) -> None:
        self.material, self.policy = material, policy
        self.augment: Augmenter | None = None

    def __len__(self) -> int:
        return len(self.material)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.augment = self.augment or Augmenter(self.policy.transforms, self.material.learns)
        seed = sample_seed(0, 0, self.material.ids[row])
        pixels, target = self.augment(self.material.pictures[row], self.material.targets[row], seed)
        normal = (torch.from_numpy(pixels).permute(2, 0, 1).float() / 255 - 0.5) / 0.25
        return normal, torch.as_tensor(np.array(target))


if __name__ == "__main__":
    main()
