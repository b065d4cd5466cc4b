"""Everything that a training works with, put together: fresh, or as its latest checkpoint left it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import torch

from pipeline.dataset import Dataset
from pipeline.devices import set_up
from pipeline.journal import Journal, read
from pipeline.packed import views
from pipeline.params import TrainParams, described
from pipeline.plugin import metric_named
from pipeline.policy import Policy
from pipeline.train.batches import Material, TrainingBatches, mosaic_epochs, plain_batches
from pipeline.train.checkpoint import Checkpoints, Progress, training_key
from pipeline.train.learner import Learner, build_learner
from pipeline.train.loop import Score, Validation, validate
from pipeline.train.machine import Arithmetic, Machine
from pipeline.train.orders import epoch_order, known_of
from pipeline.train.probe import choose
from pipeline.training import Known


@dataclass
class Training:
    """Everything a training works with; assembled once, then moved step by step."""

    params: TrainParams
    dataset: Dataset
    policy: Policy
    train: Material
    known: Known
    val: Material
    batches: TrainingBatches
    machine: Machine
    checkpoints: Checkpoints
    progress: Progress
    journal: Journal

    def validated(self) -> Validation:
        """What the network is worth on the validation split, with the weights that are kept."""
        params, policy, split = self.params, self.policy, self.dataset.split("val")
        batches = plain_batches(self.val, policy, params.train.batch_size)
        seen = views(split, policy.frame, policy.plain)
        with self.machine.averaged():
            return validate(self.machine, batches, split, seen, Score(params.task, metric_named(params.task.score)))

    def close(self) -> None:
        """End its threads, and let readers see all that it noted."""
        self.journal.close()
        self.batches.close()


def assemble(params: TrainParams, dataset: Dataset, policy: Policy) -> Training:
    """Build everything, and go back to the latest checkpoint if this training has one."""
    device = set_up(params.compute.device, params.compute.threads)
    learner = build_learner(params, dataset, policy)
    split = dataset.split("train")
    train = Material.of(split, policy.frame, policy.packed)
    known = known_of(split, train)
    val = Material.of(dataset.split("val"), policy.frame, policy.plain)
    threads = params.compute.loader_threads or os.cpu_count() or 1
    batches = TrainingBatches(
        train, policy, params.seed, params.train.batch_size, threads, mosaic_epochs(params.train.epochs)
    )
    checkpoints = Checkpoints(_key(params, dataset, policy, device))
    saved = checkpoints.latest()
    if saved and not _journal_reaches(checkpoints, batches.steps * saved.progress.epoch + saved.progress.step):
        saved = None
    if saved is None:
        checkpoints.clear()
    arithmetic = saved.arithmetic if saved else _probe(params, learner, batches, known, device)
    learner.to(device)
    machine = Machine.assemble(params, learner, device, arithmetic, batches.steps * params.train.epochs)
    progress = saved.progress if saved else Progress()
    if saved:
        machine.restore(saved.state)
        print(f"train: goes on from epoch {progress.epoch + 1}, step {progress.step} of {batches.steps}", flush=True)
    journal = Journal(checkpoints.folder)
    return Training(params, dataset, policy, train, known, val, batches, machine, checkpoints, progress, journal)


def _probe(
    params: TrainParams, learner: Learner, batches: TrainingBatches, known: Known, device: torch.device
) -> Arithmetic:
    first = batches.epoch(0, 0, epoch_order(params.order, params.seed, 0, params.train.epochs, known))
    arithmetic = choose(params, learner, next(first), device, batches.steps * params.train.epochs)
    first.close()  # type: ignore[attr-defined]
    return arithmetic


def _key(params: TrainParams, dataset: Dataset, policy: Policy, device: torch.device) -> str:
    about = described(params)
    about["train"].pop("checkpoint_seconds")
    about["compute"].pop("loader_threads")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return training_key(
        json.dumps(about, sort_keys=True),
        dataset.info.digest,
        policy.model_dump_json(),
        where,
        str(torch.get_num_threads()),
    )


def _journal_reaches(checkpoints: Checkpoints, steps: int) -> bool:
    """Whether the journal has every step that the checkpoint has: the curves are written from it."""
    rows, _ = read(checkpoints.journal, 0)
    return sum(row.series == "step" for row in rows) >= steps
