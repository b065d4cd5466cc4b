"""What becomes of a training that diverged: it stops, or goes back to the start of an epoch, and on with half the rate.

It goes back to where an epoch began, not to the latest checkpoint: when one is made is a matter of time, and the same
run is to give the same weights. The second time it goes back an epoch further, and the third time two: what went wrong
may have begun before it showed.

Several processes do all of this in step: each reads what it goes back to, and the first one alone writes and removes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline.errors import UserError
from pipeline.failpoints import TrainingPoint, passing
from pipeline.files import replacing_folder, sync_file
from pipeline.journal import ROLLBACK
from pipeline.train.assembly import Training
from pipeline.train.divergence import examined
from pipeline.train.evidence import Found
from pipeline.train.generations import CURRENT, OLD
from pipeline.train.saved import Progress, Saved, opened
from pipeline.train.shortage import enough_for, ran_out
from pipeline.wording import short

ROLLBACKS = 3
"""Times that a training that diverges goes back at most: an eighth of a learning rate that does not learn is not what
is wrong."""
KEPT = 1 + sum(range(ROLLBACKS))
"""Epochs whose beginning is kept: it may go back to the latest one, then one epoch further and then two, each time
from where the last one has led."""
FOLDER = "epochs"
"""Of the checkpoints with which the last epochs began, `KEPT` of them, in the folder of the training."""
BEST = "best-*.safetensors"


def begin(training: Training) -> None:
    """Make sure that there is a checkpoint to go back to, and that all it says of earlier times is noted."""
    progress, checkpoints = training.progress, training.checkpoints
    kept, begins = _kept(training, progress.epoch), _goes_back(training) and progress.step == 0
    alone = bool(progress.rollbacks)  # the older one may be from where it diverged: see `_go_back`
    # As the first one finds it: the others may look when it has already written.
    unkept, unsaved = training.ranks.agreed((begins and not kept.exists(), not (checkpoints.folder / CURRENT).exists()))
    if unkept or alone or unsaved:
        checkpoints.save(training.machine, progress)
    if unkept:
        keep_epoch(training)
    _take_back(training)


def keep_epoch(training: Training) -> None:
    """Keep the checkpoint that was just saved, with which an epoch begins, if the training may go back to it."""
    if not _goes_back(training) or not training.ranks.first:
        return
    checkpoints, epoch = training.checkpoints, training.progress.epoch
    checkpoints.wait()
    with replacing_folder(_kept(training, epoch)) as folder:
        for path in (checkpoints.folder / CURRENT, *checkpoints.folder.glob(BEST)):
            _link(path, folder / path.name)
    for path in (checkpoints.folder / FOLDER).iterdir():
        if not epoch - KEPT < int(path.name) <= epoch:
            shutil.rmtree(path)


def recover(training: Training) -> None:
    """Find out where the training diverged; then stop, or go back and on with half the learning rate, as params say.

    Raises:
        UserError: params say to stop, or it did so too often.
    """
    options, diverged, whose = training.params.train, training.progress, f"train: {training.member.title}"
    with enough_for("a look at where it diverged, beside a copy of the weights,", "Lower train.batch_size."):
        found = examined(training)
    if found is None:
        raise UserError(
            f"{whose}a loss in epoch {diverged.epoch + 1} was no number, but the same steps taken again gave numbers.\n"
            "This machine computes differently from time to time: test its memory, then run again."
        )
    words = whose + found.words(training.batches.steps)
    if options.when_diverging == "stop":
        raise UserError(f"{words}\n{_advice(training, 'train.when_diverging: rollback')}.")
    if len(diverged.rollbacks) == ROLLBACKS:
        raise UserError(
            f"{words}\nIt went back {ROLLBACKS} times, to an eighth of the learning rate. {_advice(training)}."
        )
    with enough_for("what it goes back to, beside the weights there are,", "Take a smaller model."):
        _go_back(training, diverged, found)
    begins, scale = training.progress.epoch + 1, training.progress.rate_scale
    print(
        f"{words}\n{whose}goes back to where epoch {begins} began, and on with {scale:g} of the learning rate",
        flush=True,
    )


def _go_back(training: Training, diverged: Progress, found: Found) -> None:
    machine, checkpoints, steps = training.machine, training.checkpoints, training.batches.steps
    epoch, parts = max(0, found.epoch - len(diverged.rollbacks)), machine.accumulation
    kept = _kept(training, epoch)
    saved = training.ranks.in_turn(lambda: _begun(training, kept / CURRENT))
    for path in kept.glob(BEST) if training.ranks.first else ():
        _link(path, checkpoints.folder / path.name)
    machine.restore(saved.state)
    machine.accumulation = parts  # that memory runs out is known by now
    training.progress = progress = saved.progress
    progress.rollbacks = [*diverged.rollbacks, [found.epoch, found.step]]
    progress.warned, progress.doubted, progress.moves = diverged.warned, diverged.doubted, diverged.moves
    for _ in (CURRENT, OLD):  # one from where it diverged cannot do without what is taken back
        checkpoints.save(machine, progress)
    checkpoints.wait()
    passing(TrainingPoint.WENT_BACK)
    training.seen.cut(steps * epoch)
    _take_back(training)


def _begun(training: Training, path: Path) -> Saved:
    """The checkpoint with which an epoch began.

    Raises:
        UserError: it cannot be read any more.
    """
    try:
        return opened(path)
    except Exception as error:
        if ran_out(error):
            raise
        raise UserError(
            f"train: {path} cannot be read any more ({type(error).__name__}), so there is nothing to go back to.\n"
            f"Test this machine's disk, then remove {training.checkpoints.home} and run again: it starts over."
        ) from None


def _take_back(training: Training) -> None:
    """Take back what was noted and kept between where the training went back to and where it diverged."""
    if not training.ranks.first:
        return
    steps, folder = training.batches.steps, training.checkpoints.folder / FOLDER
    for path in folder.iterdir() if folder.exists() else ():
        if int(path.name) > training.progress.epoch:
            shutil.rmtree(path)
    for number, (epoch, _) in enumerate(training.progress.rollbacks):
        first = max(0, epoch - number)
        taken_back = {"step": first * steps, "gradient": first * steps, "epoch": first}
        training.journal.append(ROLLBACK, number, {series: float(step) for series, step in taken_back.items()})
    training.journal.flush()


def _advice(training: Training, *more: str) -> str:
    """What may help, one way or another."""
    ways = [f"Lower optimizer.lr (it is {short(training.params.optimizer.lr, 6)}) to what `convoy tune lr` proposes"]
    if not training.params.train.clip_norm:
        ways.append("set train.clip_norm: 1")
    if training.machine.scaler.is_enabled():
        ways.append("set compute.precision: bfloat16")
    *others, last = *ways, *more
    return f"{', '.join(others)}, or {last}" if others else last


def _goes_back(training: Training) -> bool:
    return training.params.train.when_diverging == "rollback"


def _kept(training: Training, epoch: int) -> Path:
    return training.checkpoints.folder / FOLDER / f"{epoch:05d}"


def _link(path: Path, name: Path) -> None:
    """Give a file, which is only ever replaced and never changed, a second name; where names are single, copy it.

    At no time is there no file of that name, if there was one: checkpoints need it.
    """
    if name.exists() and name.samefile(path):
        return
    temporary = name.with_name(f".{name.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
        sync_file(temporary)
    temporary.replace(name)
