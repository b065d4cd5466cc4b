"""The stage `train`: dataset + policy -> the model of the epoch that is best on validation."""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline import interrupts
from pipeline.dataset import Dataset
from pipeline.devices import set_up
from pipeline.errors import UserError
from pipeline.journal import Journal, read
from pipeline.packed import views
from pipeline.params import TrainParams, described
from pipeline.plugin import metric_named
from pipeline.policy import Policy
from pipeline.train.batches import Material, TrainingBatches, mosaic_epochs, plain_batches
from pipeline.train.checkpoint import Checkpoints, Progress, remove_old_trainings, training_key
from pipeline.train.learner import Learner, build_learner, parameter_groups
from pipeline.train.loop import Arithmetic, Machine, Score, Step, Validation, learning_rates, train_epoch, validate
from pipeline.train.outputs import write_bundle, write_notes
from pipeline.train.probe import choose

FLUSH_SECONDS = 1.0


@dataclass
class Training:
    """Everything a training works with; assembled once, then moved step by step."""

    params: TrainParams
    dataset: Dataset
    policy: Policy
    train: Material
    val: Material
    batches: TrainingBatches
    machine: Machine
    checkpoints: Checkpoints
    progress: Progress
    journal: Journal


def run(params: TrainParams, dataset: Dataset, policy: Policy, bundle: Path, notes: Path) -> None:
    """Fit the network to the training split; keep the epoch that is best on validation.

    Same commit, params, data and machine: the same weights, bit for bit, also when the run was killed in between.

    Raises:
        UserError: the device is not there, the network does not fit the pictures, or the loss is no number any more.
        Interrupted: the run was asked to stop; a checkpoint holds all that is done.
    """
    interrupts.at_safe_points()
    training = assemble(params, dataset, policy)
    try:
        finish_epochs(training)
    finally:
        training.journal.close()
        training.batches.close()
    if interrupts.asked():
        raise interrupts.Interrupted("train: stopped after the last epoch; the next run writes the model.")
    keep_best(training, bundle, notes)
    remove_old_trainings()


def assemble(params: TrainParams, dataset: Dataset, policy: Policy) -> Training:
    """Build everything, and go back to the latest checkpoint if this training has one."""
    device = set_up(params.compute.device, params.compute.threads)
    learner = build_learner(params, dataset, policy)
    train = Material.of(dataset.split("train"), policy.frame, policy.packed, params.train.images_per_class)
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
    arithmetic = saved.arithmetic if saved else _probe(params, learner, batches, device)
    learner.to(device)
    machine = Machine.assemble(learner, params.optimizer.build(parameter_groups(learner)), device, arithmetic)
    progress = saved.progress if saved else Progress()
    if saved:
        machine.restore(saved.state)
        print(f"train: goes on from epoch {progress.epoch + 1}, step {progress.step} of {batches.steps}", flush=True)
    journal = Journal(checkpoints.folder)
    return Training(params, dataset, policy, train, val, batches, machine, checkpoints, progress, journal)


def finish_epochs(training: Training) -> None:
    """Learn epoch by epoch from where the progress says until the last, or until patience is spent."""
    options, progress = training.params.train, training.progress
    while progress.epoch < options.epochs and not _patience_spent(progress, options.patience):
        start = time.perf_counter()
        first = progress.step
        _finish_steps(training)
        seconds = time.perf_counter() - start
        _close_epoch(training, (training.batches.steps - first) * options.batch_size / seconds)


def _finish_steps(training: Training) -> None:
    params, progress, steps = training.params, training.progress, training.batches.steps
    rates = learning_rates(
        params.schedule, params.optimizer.lr, progress.epoch, steps, params.train.epochs, progress.step
    )
    batches = training.batches.epoch(progress.epoch, progress.step)
    unread: list[Step] = []
    read_at = time.monotonic()
    for step in train_epoch(training.machine, batches, rates, params.seed, progress.epoch, progress.step):
        unread.append(step)
        due = training.checkpoints.due(params.train.checkpoint_seconds) or interrupts.asked()
        if due or step.position + 1 == steps or time.monotonic() - read_at > FLUSH_SECONDS:
            _note(training, unread)
            unread, read_at = [], time.monotonic()
        if due:
            training.checkpoints.save(training.machine, progress)
        if interrupts.asked():
            raise interrupts.Interrupted(
                f"train: stopped in epoch {progress.epoch + 1} after step {progress.step} of {steps}; "
                "a checkpoint is kept, and the next run goes on from there."
            )


def _note(training: Training, unread: list[Step]) -> None:
    """Read the losses of some steps in one synchronisation with the device, and journal them."""
    progress = training.progress
    losses = torch.stack([step.loss for step in unread]).tolist()
    for step, loss in zip(unread, losses, strict=True):
        if not math.isfinite(loss):
            raise UserError(
                f"train: the loss is {loss} at epoch {progress.epoch + 1}, step {step.position}: it diverged. "
                f"Lower optimizer.lr (it is {training.params.optimizer.lr:g}) or lengthen schedule.warmup_epochs."
            )
        position = progress.epoch * training.batches.steps + step.position
        training.journal.append("step", position, {"train/loss": loss, "train/learning_rate": step.learning_rate})
    progress.losses += losses
    progress.step = unread[-1].position + 1
    training.journal.flush()


def _close_epoch(training: Training, images_per_second: float) -> None:
    params, progress, checkpoints = training.params, training.progress, training.checkpoints
    metric, validation = metric_named(params.task.score), _validated(training)
    # A score that these images leave undefined, as the mAP of none, lets the loss decide.
    worth = -math.inf if math.isnan(validation.score) else validation.score * (1 if metric.higher_is_better else -1)
    better = (worth, -validation.loss) > (progress.best_score, -progress.best_loss)
    if better:
        checkpoints.keep_best(training.machine, progress.epoch)
        progress.best_epoch, progress.best_score, progress.best_loss = progress.epoch, worth, validation.loss
    train_loss = statistics.fmean(progress.losses)
    training.journal.append(
        "epoch",
        progress.epoch,
        {
            "epoch/train_loss": train_loss,
            "epoch/val_loss": validation.loss,
            f"epoch/val_{params.task.score}": validation.score,
            "epoch/images_per_second": images_per_second,
        },
    )
    training.journal.flush()
    print(
        f"train: epoch {progress.epoch + 1:>3}/{params.train.epochs}  loss {train_loss:.4f}  "
        f"val loss {validation.loss:.4f}  val {params.task.score} {validation.score:.4f}"
        f"{' *' if better else '  '}  {images_per_second:,.0f} images/s",
        flush=True,
    )
    progress.epoch, progress.step, progress.losses = progress.epoch + 1, 0, []
    checkpoints.save(training.machine, progress)


def _validated(training: Training) -> Validation:
    params, policy, split = training.params, training.policy, training.dataset.split("val")
    batches = plain_batches(training.val, policy, params.train.batch_size)
    seen = views(split, policy.frame, policy.plain)
    return validate(training.machine, batches, split, seen, Score(params.task, metric_named(params.task.score)))


def keep_best(training: Training, bundle: Path, notes: Path) -> None:
    """Write the stage's outputs: the model of the best epoch, and the course of the training."""
    params, machine, progress = training.params, training.machine, training.progress
    machine.learner.network.load_state_dict(training.checkpoints.best(progress.best_epoch))
    if params.task.undecided:
        params = params.model_copy(update={"task": params.task.tuned(_validated(training).answers)})
    write_bundle(bundle, params, training.dataset, training.policy, machine)
    write_notes(notes, training.checkpoints, progress, machine, params.task.score)
    print(
        f"train: kept epoch {progress.best_epoch + 1} of {progress.epoch}, {machine.parameters():,} parameters, "
        f"{machine.arithmetic.precision}, {machine.arithmetic.memory_format}"
    )


def _probe(params: TrainParams, learner: Learner, batches: TrainingBatches, device: torch.device) -> Arithmetic:
    first = batches.epoch(0)
    arithmetic = choose(params, learner, next(first), device)
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


def _patience_spent(progress: Progress, patience: int) -> bool:
    return bool(patience) and progress.epoch - 1 - progress.best_epoch >= patience and progress.step == 0
