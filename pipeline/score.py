"""A bundle's answers and how fast they come, told in a process of its own: see `pipeline.asking`."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.asking import ANSWERS, GOLDEN, GOLDEN_ANSWERS, NOTES
from pipeline.bundle import Bundle
from pipeline.dataset import Dataset, Split
from pipeline.devices import set_up
from pipeline.errors import UserError
from pipeline.packed import packed, views

if TYPE_CHECKING:
    import torch

WARM_UP = 5
TIMED = 20
"""Answers that are timed at least."""
SECONDS = 0.4
"""For which answers are timed, if that gives more of them."""
PORTION = 64


def main(folder: str, device: str, threads: str, out: str) -> None:
    """Write what one bundle says into the folder `out`."""
    where = set_up(device, int(threads))
    bundle = Bundle.open(Path(folder))
    test = Dataset.open().split("test")
    few = test.at(range(min(GOLDEN, len(test))))
    first = [few.read(position) for position in range(len(few))]

    def serve(encoded: Sequence[bytes]) -> list[Any]:
        return bundle.answer([bundle.prepare(data) for data in encoded], where)

    told = of_split(bundle, test, where)
    milliseconds, timed = _timed(serve, first)
    for name, split, said in ((ANSWERS, test, told), (GOLDEN_ANSWERS, few, serve(first))):
        pq.write_table(pa.table(bundle.task.answers(split, said).columns()), Path(out, name))
    notes = {"milliseconds": milliseconds, "timed": timed, "device": str(where)}
    Path(out, NOTES).write_text(json.dumps(notes))


def of_split(bundle: Bundle, split: Split, where: torch.device) -> list[Any]:
    """What a bundle says of every image of a split, as its task reads it.

    Args:
        bundle: that answers. One that learnt from grey pictures while these have colour, or the other way round, sees
            them as it would in use.
        split: the images.
        where: to compute.
    """
    if bundle.info.channels == split.dataset.info.channels:
        frame, side = bundle.info.frame, bundle.info.packed
        return bundle.told(packed(split, frame, side), views(split, frame, side), where)
    told: list[Any] = []
    for start in range(0, len(split), PORTION):
        encoded = [split.read(position) for position in range(start, min(start + PORTION, len(split)))]
        told += bundle.answer([bundle.prepare(data) for data in encoded], where)
    return told


def _timed(serve: Callable[[Sequence[bytes]], object], pictures: Sequence[bytes]) -> tuple[float, int]:
    """The median time of an answer to one picture, in milliseconds, and over how many."""
    for turn in range(WARM_UP):
        serve([pictures[turn % len(pictures)]])
    spent: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(spent) < TIMED or time.perf_counter() < until:
        start = time.perf_counter()
        serve([pictures[len(spent) % len(pictures)]])
        spent.append(time.perf_counter() - start)
    return 1000 * statistics.median(spent), len(spent)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
