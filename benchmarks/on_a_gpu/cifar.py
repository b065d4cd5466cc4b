"""CIFAR-10 as it is at hand, ingested, and a policy for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench import Bench
from made_up import SHIPPED, quietly

from flows.edits import edited, merged
from pipeline.augment import stage as augment
from pipeline.dataset import Dataset
from pipeline.door import parse
from pipeline.files import DATASET, STATE
from pipeline.ingest import stage as ingest
from pipeline.journal import read
from pipeline.params import Params
from pipeline.policy import POLICY

ROOT = Path(__file__).resolve().parents[2]
Described = Callable[..., Params]
"""From changes to params."""


def described(bench: Bench, ready: str, *always: str) -> Described:
    """Params of a file of params/ over what is at hand, with some changes."""
    file = ROOT / "params" / f"{ready}.yaml"
    text = merged(file.read_text(), SHIPPED, str(file))
    where = bench.data or _made_up(Path("cifar"))
    source = f"data={{name: auto, path: {where}}}"
    return lambda *changes: parse(Params, edited(text, [source, *bench.where, *always, *changes]))


def prepare(params: Params) -> None:
    """Ingest and augment, in this folder."""
    quietly(lambda: ingest.run(params, DATASET))
    POLICY.parent.mkdir(parents=True, exist_ok=True)
    quietly(lambda: augment.run(params, Dataset.open(), POLICY.parent))


def seconds_of_epochs(images: int) -> list[float]:
    """Of the steps of each epoch of the last training here, as its journal has them, with all that surrounds them.

    Args:
        images: that are learnt from in an epoch.
    """
    last = max((STATE / "train").glob("*/journal.jsonl"), key=lambda path: path.stat().st_mtime)
    rates = [row.values["epoch/images_per_second"] for row in read(last, 0)[0] if row.series == "epoch"]
    return [images / rate for rate in rates]


def _made_up(folder: Path) -> Path:
    """The binary version of ten classes whose pictures are of other colours."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        random = np.random.default_rng(0)
        for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
            labels = np.arange(60) % 10
            pixels = random.integers(0, 128, (60, 3, 1024)) + 100 * (labels[:, None, None] >> np.arange(3)[:, None] & 1)
            (folder / f"{name}.bin").write_bytes(np.c_[labels, pixels.reshape(60, -1)].astype(np.uint8).tobytes())
        (folder / "batches.meta.txt").write_text("\n".join(f"class {number}" for number in range(10)) + "\n")
    return folder
