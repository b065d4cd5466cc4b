"""A step that does not fit into memory: found out, told with the batch that would fit, or computed in more parts."""

from __future__ import annotations

import gc
from contextlib import closing
from itertools import islice

import torch

from pipeline.errors import UserError
from pipeline.train.assembly import Training
from pipeline.train.batch_norms import too_few
from pipeline.train.shortage import enough_for, ran_out, room, shortage
from pipeline.train.steps import go_back, rest_of_epoch, retake

TRIED = 2
"""Steps that show whether something fits: from the second one on the optimizer's state lies beside a step."""


def make_room(training: Training) -> None:
    """Find in how many parts the step that ran out of memory fits, and go on so, or stop, as params say.

    Weights, statistics and all else are as before that step.

    Raises:
        UserError: params say to stop, or nothing fits.
    """
    machine, options = training.machine, training.params.train
    size, space = training.batch_size, room()
    with enough_for(
        "what a step leaves room for, a copy of the weights and the checkpoint,",
        "Take a smaller model, train.batch_size or augment.size, or run again once there is more memory.",
    ):
        _free(training)
        _stand_before(training)
        training.checkpoints.save(machine, training.progress)
        fitting = _parts(training, size)
    progress = training.progress
    if fitting is None:
        raise shortage(
            f"train: out of memory: not even one picture at a time fits into {space}.\n"
            "Set train.recompute: true, or take a smaller model or augment.size."
        )
    some = -(-size // fitting)
    if options.when_out_of_memory == "stop":
        raise shortage(
            f"train: out of memory: {-(-size // machine.accumulation)} pictures at a time do not fit into {space}; "
            f"{some} do.\nSet train.batch_size: {some}, or train.accumulation: {fitting} for the same steps in less "
            "memory, or train.when_out_of_memory: halve."
        )
    machine.accumulation = fitting
    training.checkpoints.save(machine, progress)
    print(
        f"train: out of memory in epoch {progress.epoch + 1}, step {progress.step + 1}; from here on each batch of "
        f"{size} is computed in {fitting} parts (train.accumulation: {fitting})",
        flush=True,
    )


def out_of_room(training: Training) -> UserError:
    """What there is to say where one of several processes has run out of memory: the others wait for its part."""
    count, parts = training.ranks.count, training.machine.accumulation
    share = -(-training.batch_size // count)
    smaller = "train.recompute: true, or take a smaller model"
    if 2 * parts <= training.batch_size // count:
        smaller = f"train.accumulation: {2 * parts} for the same steps in less memory, which is a guess: untried"
    sharded = "" if training.params.compute.sharded else "compute.sharded: true, or "
    return shortage(
        f"train: out of memory: in one of {count} processes {-(-share // parts)} pictures at a time do not fit into "
        f"{room()}.\nSet {sharded}{smaller}."
    )


def _stand_before(training: Training) -> None:
    """Stand before the step that failed; or, where those before it do not fit any more either, at the checkpoint."""
    try:
        retake(training)
        return
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
    _free(training)
    go_back(training)
    training.seen.cut(training.progress.epoch * training.batches.steps + training.progress.step)


def _parts(training: Training, size: int) -> int | None:
    """In how many parts the next steps fit: the fewest of twice, four times, ... as many as now; None: in none."""
    machine = training.machine
    fitting, parts = None, 2 * machine.accumulation
    while fitting is None and parts < 2 * size:
        machine.accumulation = min(parts, size)
        if _fits(training):
            fitting = machine.accumulation
        _free(training)
        go_back(training)  # in as many parts as it was
        parts *= 2
    return fitting


def _fits(training: Training) -> bool:
    try:
        with closing(rest_of_epoch(training)) as steps:
            for step in islice(steps, TRIED):
                step.loss.item()  # waits for the device
        return True
    except (RuntimeError, MemoryError, ValueError) as error:
        if not ran_out(error) and not too_few(error):  # batch normalisation may refuse a part of one picture
            raise
        return False


def _free(training: Training) -> None:
    """Let go of what a failed step has left."""
    training.machine.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if training.machine.device.type == "cuda":
        torch.cuda.empty_cache()
