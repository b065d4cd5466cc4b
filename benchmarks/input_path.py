"""The input path with classes, boxes and masks, beside a `DataLoader` that does the same: images a second.

    .venv/bin/python benchmarks/input_path.py --rounds 5

512 packed pictures of 256 x 256 pixels, ten boxes or a mask of each; random resized crop to 224, flip, light. The peer
is torch's `DataLoader` with two workers over the same Albumentations transforms, float32 out. The sides take turns
(A B, B A, ...) in one call, and a side's figure is its median.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.contracts import Frame, Target  # noqa: E402
from pipeline.plugin import config_class  # noqa: E402
from pipeline.policy import Policy  # noqa: E402
from pipeline.train.batches import Material, TrainingBatches  # noqa: E402
from pipeline.transforms import Augmenter, resolve, sample_seed  # noqa: E402

COUNT, SIZE, BATCH, OBJECTS = 512, 224, 32, 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of each side (default 5)")
    rounds = parser.parse_args().rounds
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; images a second, medians of {rounds}")
    print(f"{'':<10}{'convoy':>10}{'DataLoader':>12}{'ratio':>8}")
    for learns in Target:
        material, policy = _material(learns)
        ours, theirs = _ours(material, policy), _theirs(material, policy)
        found: dict[str, list[float]] = {"ours": [], "theirs": []}
        for number in range(rounds):
            sides = [("ours", ours), ("theirs", theirs)]
            for name, side in sides if number % 2 == 0 else sides[::-1]:
                found[name].append(_rate(side, number))
        mine, peer = (statistics.median(found[name]) for name in ("ours", "theirs"))
        print(f"{learns.name:<10}{mine:>10.0f}{peer:>12.0f}{mine / peer:>8.2f}", flush=True)


def _rate(side: Callable[[int], Iterator[Any]], epoch: int) -> float:
    start, images = time.perf_counter(), 0
    for batch in side(epoch):
        images += len(batch[0])
    return images / (time.perf_counter() - start)


def _material(learns: Target) -> tuple[Material, Policy]:
    options = config_class("policies", "standard").model_validate({"size": SIZE})
    spec = resolve(options.transforms(learns.located), options.packed, SIZE, 3, learns)
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
    frame = Frame.model_validate("pad")
    policy = Policy(
        channels=3, frame=frame, packed=side, size=SIZE, mean=[0.5] * 3, deviation=[0.25] * 3, transforms=spec
    )
    return Material([f"{row:064x}" for row in range(COUNT)], pictures, targets, learns), policy


def _ours(material: Material, policy: Policy) -> Callable[[int], Iterator[Any]]:
    batches = TrainingBatches(material, policy, 0, BATCH, os.cpu_count() or 1)
    return lambda epoch: batches.epoch(epoch)


def _theirs(material: Material, policy: Policy) -> Callable[[int], Iterator[Any]]:
    dataset = _Pictures(material, policy)
    loader = torch.utils.data.DataLoader(
        dataset, BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    return lambda epoch: iter(loader)


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
