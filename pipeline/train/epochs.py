"""Epoch by epoch: what is noted, what is saved, and when a training stops."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable
from contextlib import closing

import numpy as np
import torch

from pipeline import interrupts
from pipeline.failpoints import TrainingPoint, passing
from pipeline.plugin import metric_named
from pipeline.train.assembly import Training
from pipeline.train.batch_norms import too_few, too_few_values
from pipeline.train.divergence import Diverged, check_epoch, check_losses, check_weights
from pipeline.train.loop import Step
from pipeline.train.memory import make_room, out_of_room
from pipeline.train.norms import ALL, warning
from pipeline.train.processes.pauses import Pauses
from pipeline.train.refreshing import refresh_average
from pipeline.train.rollback import begin, keep_epoch, recover
from pipeline.train.saved import Progress
from pipeline.train.shortage import enough_for, ran_out
from pipeline.train.sizes import side_of
from pipeline.train.steps import rest_of_epoch


def finish_epochs(training: Training) -> None:
    """Learn epoch by epoch from where the progress says until the last, or until patience is spent.

    Raises:
        UserError: the training diverged, or ran out of memory, and what params say to do then does not help.
        Interrupted: the run was asked to stop; a checkpoint holds all that is done.
    """
    options = training.params.train
    with enough_for("a copy of the weights, for a checkpoint,", "Take a smaller model or train.batch_size."):
        begin(training)
    while training.progress.epoch < options.epochs and not _patience_spent(training.progress, options.patience):
        start = time.perf_counter()
        first = training.progress.step
        if _went_well(training):
            seconds = time.perf_counter() - start
            _close_epoch(training, (training.batches.steps - first) * training.batch_size / seconds)
    training.checkpoints.wait()


def _went_well(training: Training) -> bool:
    """Finish the steps of an epoch; False: that failed, and the training stands where it is to go on from now."""
    mend = recover
    try:
        if _finish_steps(training):
            return True
        mend = make_room
    except Diverged:
        pass
    mend(training)  # not while the error is handled: it holds on to the memory of its step
    return False


def _finish_steps(training: Training) -> bool:
    """Whether there was memory for all of them."""
    unread: list[Step] = []
    try:
        with closing(rest_of_epoch(training)) as steps:
            keep_track(training, steps, unread)
    except (RuntimeError, MemoryError, ValueError) as error:
        parts, count = training.machine.accumulation, training.ranks.count
        if too_few(error):
            raise too_few_values(training.batch_size, len(training.train), parts, count) from None
        if not ran_out(error):
            raise
        if count > 1:
            raise out_of_room(training) from None
        _note(training, unread)
        return False
    return True


def keep_track(training: Training, steps: Iterable[Step], unread: list[Step]) -> None:
    """Note steps of the epoch where the training stands while they are taken, and save now and then.

    Args:
        training: that takes them.
        steps: from where it stands on.
        unread: empty; those that are taken and not yet noted stand in it, also when a step fails.

    Raises:
        Diverged: a loss or a weight is no number.
        Interrupted: the run was asked to stop; a checkpoint holds all that is done.
    """
    progress, seconds = training.progress, training.params.train.checkpoint_seconds
    pauses = Pauses(training.ranks)
    for step in steps:
        unread.append(step)
        last = step.position + 1 == training.batches.steps
        due, asked = training.checkpoints.due(seconds), interrupts.asked()
        if not pauses.now(due or asked, last):
            continue
        due, asked = pauses.agreed(due, asked)
        _note(training, unread)
        unread.clear()
        if due or asked or last:
            check_weights(training.machine)  # a checkpoint is always one to go back to
        if last:
            check_epoch(progress.losses)  # all losses that float16 has skipped
        if due or asked:
            training.checkpoints.save(training.machine, progress)
        if asked:
            _stop(training)


def _stop(training: Training) -> None:
    progress = training.progress
    training.checkpoints.wait()
    training.ranks.wait()
    raise interrupts.Interrupted(
        f"train: {training.member.title}stopped in epoch {progress.epoch + 1} after step {progress.step} of "
        f"{training.batches.steps}; "
        "a checkpoint is kept, and the next run goes on from there."
    )


def _note(training: Training, unread: list[Step]) -> None:
    """Read the losses and norms of some steps in one synchronisation with the device, and journal them.

    Raises:
        Diverged: a loss is no number.
    """
    if not unread:
        return
    progress, journal = training.progress, training.journal
    losses = training.ranks.mean(torch.stack([step.loss.float() for step in unread]))
    read = torch.cat([losses, *(step.norms.values for step in unread if step.norms)]).tolist()
    seen = training.ranks.gathered([step.views for step in unread])
    check_losses(training.machine, read[: len(unread)])
    at = len(unread)
    for number, (step, loss) in enumerate(zip(unread, read, strict=False)):
        position = progress.epoch * training.batches.steps + step.position
        journal.append("step", position, {"train/loss": loss, "train/learning_rate": step.learning_rate})
        training.seen.append(position, np.concatenate([views[number] for views in seen] or [step.views]))
        if step.norms:
            norms = step.norms.by_layer(read[at : at + len(step.norms.values)])
            at += len(step.norms.values)
            journal.append("gradient", position, {f"gradient_norm/{layer}": norm for layer, norm in norms.items()})
            if math.isfinite(norms[ALL]):
                if progress.first_norms:
                    progress.norms.append(norms)
                else:
                    progress.first_norms = norms
    progress.losses += read[: len(unread)]
    progress.step = unread[-1].position + 1
    training.flush()
    passing(TrainingPoint.STEPS_NOTED)


def _close_epoch(training: Training, images_per_second: float) -> None:
    params, progress, checkpoints = training.params, training.progress, training.checkpoints
    with enough_for(f"the validation of epoch {progress.epoch + 1}", "Lower train.batch_size."):
        refresh_average(training)
        validation = training.validated()
    metric = metric_named(params.task.score)
    sound = math.isfinite(validation.loss)  # else answers are no numbers, whatever they score by chance
    loss = validation.loss if sound else math.inf
    # A score that these images leave undefined, as the mAP of none, lets the loss decide.
    worth = metric.turned(validation.score) if sound and not math.isnan(validation.score) else -math.inf
    better = progress.best_epoch < 0 or (worth, -loss) > (progress.best_score, -progress.best_loss)
    if better:
        checkpoints.keep_best(training.machine, progress.epoch)
        progress.best_epoch, progress.best_score, progress.best_loss = progress.epoch, worth, loss
    train_loss = statistics.fmean(filter(math.isfinite, progress.losses))  # float16 skips steps that overflow
    training.journal.append(
        "epoch",
        progress.epoch,
        {
            "epoch/train_loss": train_loss,
            "epoch/val_loss": validation.loss,
            f"epoch/val_{params.task.score}": validation.score,
            "epoch/images_per_second": images_per_second,
            **(
                {"epoch/side": side_of(params.train, training.policy.size, progress.epoch)}
                if params.train.first_size
                else {}
            ),
        },
    )
    training.journal.flush()
    passing(TrainingPoint.EPOCH_NOTED)
    print(
        f"train: {training.member.title}epoch {progress.epoch + 1:>3}/{params.train.epochs}  loss {train_loss:.4f}  "
        f"val loss {validation.loss:.4f}  val {params.task.score} {validation.score:.4f}"
        f"{' *' if better else '  '}  {images_per_second:,.0f} images/s",
        flush=True,
    )
    _warn(training)
    if not sound and not progress.doubted:
        print(
            f"train: {training.member.title}a validation loss that is no number counts as the worst of all, whatever "
            "the score beside it; lower optimizer.lr or set train.clip_norm",
            flush=True,
        )
        progress.doubted = True
    progress.worths.append(worth)
    progress.epoch, progress.step, progress.losses, progress.norms = progress.epoch + 1, 0, [], []
    with enough_for("a copy of the weights, for a checkpoint,", "Take a smaller model."):
        checkpoints.save(training.machine, progress)
    keep_epoch(training)


def _warn(training: Training) -> None:
    """Say at most once in a training what is wrong with its gradients."""
    progress = training.progress
    words = "" if progress.warned else warning(progress.first_norms, progress.norms)
    if words:
        print(f"train: {training.member.title}{words}", flush=True)
        progress.warned = True


def _patience_spent(progress: Progress, patience: int) -> bool:
    return bool(patience) and progress.epoch - 1 - progress.best_epoch >= patience and progress.step == 0
