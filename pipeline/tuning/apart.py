"""A training that leaves nothing behind: assembled as the stage does it, in a tree of its own that is thrown away."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.dataset import Dataset
from pipeline.errors import UserError
from pipeline.files import STATE, shared
from pipeline.params import TrainParams
from pipeline.policy import Policy
from pipeline.train.assembly import Training, assemble
from pipeline.train.batches import Batch
from pipeline.train.shortage import ran_out
from pipeline.train.steps import Way, entered

SCRATCH = STATE / "tuning"


class TooLarge(UserError):
    """A training does not fit into memory."""


@contextmanager
def apart(params: TrainParams, dataset: Dataset, policy: Policy) -> Iterator[Training]:
    """A fresh training whose checkpoints and journal lie in a tree of its own, which goes at the end.

    Whoever holds the lock of the project's tree may call this; what a killed one left is removed first.

    Args:
        params: of a training; see `whole`.
        dataset: of the project, which is the current folder. Inside, another folder is.
        policy: likewise.

    Raises:
        TooLarge: memory ran out, here or inside.
    """
    dataset = replace(dataset, root=dataset.root.absolute())
    home, scratch, packed = Path.cwd(), SCRATCH.absolute(), (shared() / "cache").absolute()
    packed.mkdir(parents=True, exist_ok=True)
    clear(scratch)
    (scratch / STATE).mkdir(parents=True)
    (scratch / STATE / "cache").symlink_to(packed)
    os.chdir(scratch)
    try:
        training = assemble(whole(params), dataset, policy)
        try:
            yield training
        finally:
            training.close()
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        raise TooLarge(
            f"A batch of {params.train.batch_size} does not fit into memory: `convoy tune batch` finds one that does."
        ) from None
    finally:
        os.chdir(home)
        clear(scratch)


def clear(scratch: Path = SCRATCH) -> None:
    """Remove what a killed one left."""
    shutil.rmtree(scratch, ignore_errors=True)


def whole(params: TrainParams) -> TrainParams:
    """One training of these params in one process, as it is when pictures have grown and all layers learn."""
    train = params.train.model_copy(update={"first_size": 0})
    layers, compute, ensemble = params.layers, params.compute, params.ensemble
    if layers.frozen_epochs < train.epochs:
        layers = layers.model_copy(update={"frozen_epochs": 0, "thawing_epochs": 0})
    compute = compute.model_copy(update={"processes": 1, "sharded": False})
    ensemble = ensemble.model_copy(update={"members": 1})
    return params.model_copy(update={"train": train, "layers": layers, "compute": compute, "ensemble": ensemble})


def endless(training: Training) -> Generator[Batch]:
    """The training's batches, epoch after epoch from its first one on; close it when you have enough."""
    for epoch in itertools.cycle(range(training.params.train.epochs)):
        training.progress.epoch = epoch
        yield from batches_of(training, entered(training))


def batches_of(training: Training, way: Way) -> Iterator[Batch]:
    """Those of the epoch that the training has entered."""
    return training.source.epoch(training.progress.epoch, 0, way.order)
