"""Epoch by epoch: what is noted, what is saved, and when a training stops."""

from __future__ import annotations

import math
import statistics
import time

import torch

from pipeline import interrupts
from pipeline.errors import UserError
from pipeline.plugin import metric_named
from pipeline.train.assembly import Training
from pipeline.train.checkpoint import Progress
from pipeline.train.loop import Step, paces_of, train_epoch
from pipeline.train.orders import epoch_order

FLUSH_SECONDS = 1.0


def finish_epochs(training: Training) -> None:
    """Learn epoch by epoch from where the progress says until the last, or until patience is spent.

    Raises:
        UserError: the loss is no number any more.
        Interrupted: the run was asked to stop; a checkpoint holds all that is done.
    """
    options, progress = training.params.train, training.progress
    while progress.epoch < options.epochs and not _patience_spent(progress, options.patience):
        start = time.perf_counter()
        first = progress.step
        _finish_steps(training)
        seconds = time.perf_counter() - start
        _close_epoch(training, (training.batches.steps - first) * options.batch_size / seconds)


def _finish_steps(training: Training) -> None:
    params, progress, steps = training.params, training.progress, training.batches.steps
    epoch, epochs = progress.epoch, params.train.epochs
    paces = paces_of(params.schedule, params.optimizer.lr, epoch, steps, epochs, progress.worths)
    order = epoch_order(params.order, params.seed, epoch, epochs, training.known)
    batches = training.batches.epoch(epoch, progress.step, order)
    unread: list[Step] = []
    read_at = time.monotonic()
    for step in train_epoch(training.machine, batches, paces, params.seed, epoch, progress.step):
        unread.append(step)
        due = training.checkpoints.due(params.train.checkpoint_seconds) or interrupts.asked()
        if due or step.position + 1 == steps or time.monotonic() - read_at > FLUSH_SECONDS:
            _note(training, unread)
            unread, read_at = [], time.monotonic()
        if due:
            training.checkpoints.save(training.machine, progress)
        if interrupts.asked():
            raise interrupts.Interrupted(
                f"train: stopped in epoch {epoch + 1} after step {progress.step} of {steps}; "
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
    metric, validation = metric_named(params.task.score), training.validated()
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
    progress.worths.append(worth)
    progress.epoch, progress.step, progress.losses = progress.epoch + 1, 0, []
    checkpoints.save(training.machine, progress)


def _patience_spent(progress: Progress, patience: int) -> bool:
    return bool(patience) and progress.epoch - 1 - progress.best_epoch >= patience and progress.step == 0
