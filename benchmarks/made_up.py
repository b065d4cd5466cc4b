"""A small training on made-up pictures, for benchmarks of the engine."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from flows.edits import edited  # noqa: E402
from pipeline.augment import stage as augment  # noqa: E402
from pipeline.dataset import Dataset  # noqa: E402
from pipeline.door import parse  # noqa: E402
from pipeline.files import DATASET  # noqa: E402
from pipeline.ingest import stage as ingest  # noqa: E402
from pipeline.params import Params  # noqa: E402
from pipeline.policy import POLICY, Policy  # noqa: E402
from pipeline.train.assembly import Training, assemble  # noqa: E402

SHIPPED = (Path(__file__).resolve().parents[1] / "params.yaml").read_text()
FIXED = (
    "compute={device: cpu, precision: float32, memory_format: contiguous, compile: never, pictures: device, threads: 1}"
)


def prepared(count: int, size: int, *changes: str) -> Training:
    """A training in this folder, on so many pictures of two classes that a little contrast tells apart."""
    random, source = np.random.default_rng(0), Path("pictures")
    for number in range(0 if source.exists() else count):
        name = ("dull", "lively")[number % 2]
        pixels = np.clip(random.normal(128, 12 + 6 * (number % 2), (size, size, 3)), 0, 255).astype(np.uint8)
        (source / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(source / name / f"{number:05d}.png")
    common = ("data={name: folder, path: pictures}", f"augment={{name: none, size: {size}}}")
    params = parse(Params, edited(SHIPPED, [*common, *changes]))
    if not DATASET.exists():
        quietly(lambda: ingest.run(params, DATASET))
        POLICY.parent.mkdir(parents=True)
        quietly(lambda: augment.run(params, Dataset.open(), POLICY.parent))
    return assemble(params, Dataset.open(), Policy.open())


def next_epoch(training: Training) -> None:
    """Let a training stand at the start of its next epoch, whose steps are done and not validated."""
    progress = training.progress
    progress.epoch, progress.step, progress.losses, progress.norms = progress.epoch + 1, 0, [], []


def quietly(work: Callable[[], object]) -> None:
    """Do it without what it prints."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        work()


class Stream:
    """Batches for Lightning, which takes anything that can be walked through again."""

    def __init__(self, given: Callable[[], Iterator[Any]]) -> None:
        self._given = given

    def __iter__(self) -> Iterator[Any]:
        return self._given()
