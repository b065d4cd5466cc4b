"""A step that does not fit into memory: found out, told with the batch that would fit, or computed in more parts."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import closing
from enum import Enum, auto
from itertools import islice

import torch

from pipeline.clashes import clashes
from pipeline.errors import UserError
from pipeline.params import TrainParams
from pipeline.train.assembly import Training
from pipeline.train.batch_norms import normalises, too_few
from pipeline.train.recompute import blocks_of
from pipeline.train.shortage import enough_for, ran_out, room, shortage
from pipeline.train.steps import go_back, rest_of_epoch, retake

TRIED = 2
"""Steps that show whether something fits: from the second one on the optimizer's state lies beside a step."""


class Outcome(Enum):
    """What came of steps in so many parts."""

    FITS = auto()
    TOO_LARGE = auto()
    TOO_FEW = auto()
    """Pictures in a part, for batch normalisation."""


def make_room(training: Training) -> None:
    """Find in how many parts the step that ran out of memory fits, and go on so, or stop, as params say.

    Weights, statistics and all else are as before that step.

    Raises:
        UserError: params say to stop, or nothing fits.
    """
    machine, options = training.machine, training.params.train
    size = training.batch_size
    with enough_for(
        "what a step leaves room for, a copy of the weights and the checkpoint,",
        "Take a smaller model, train.batch_size or augment.size, or run again once there is more memory.",
    ):
        _free(training)
        _stand_before(training)
        training.checkpoints.save(machine, training.progress)
        parts, outcome = _tried(training)
    progress = training.progress
    if outcome is not Outcome.FITS:
        raise shortage(_nothing_fits(training, parts, outcome))
    if options.when_out_of_memory == "stop":
        raise shortage(_what_fits(training, parts))
    machine.accumulation = parts
    training.checkpoints.save(machine, progress)
    print(
        f"train: out of memory in epoch {progress.epoch + 1}, step {progress.step + 1}; from here on each batch of "
        f"{size} is computed in {parts} parts (train.accumulation: {parts})",
        flush=True,
    )


def out_of_room(training: Training) -> UserError:
    """What there is to say where one of several processes has run out of memory: the others wait for its part."""
    params, count, parts = training.params, training.ranks.count, training.machine.accumulation
    share = -(-training.batch_size // count)
    ways = []
    if not params.compute.sharded and _let_in(params, "compute", sharded=True):
        ways.append("compute.sharded: true")
    more = 2 * parts
    alone = 2 * more > training.batch_size // count  # a picture is computed by itself, which may be too few
    if more <= training.batch_size // count and not (alone and normalises(training.machine.learner.network)):
        ways.append(f"train.accumulation: {more} for the same steps in less memory, which is a guess: untried")
    else:
        ways += _less(training)
    return shortage(
        f"train: out of memory: in one of {count} processes {-(-share // parts)} pictures at a time do not fit into "
        f"{room()}.\n{_set(ways)}."
    )


def _what_fits(training: Training, parts: int) -> str:
    """What to set where a batch fits in so many parts."""
    params, size = training.params, training.batch_size
    at_once = -(-size // parts)
    smaller = at_once * params.train.accumulation
    ways = [f"train.batch_size: {smaller}"] if _let_in(params, "train", batch_size=smaller) else []
    if _let_in(params, "train", accumulation=parts):
        ways.append(f"train.accumulation: {parts} for the same steps in less memory")
    if _let_in(params, "train", when_out_of_memory="halve"):
        ways.append("train.when_out_of_memory: halve")
    return (
        f"train: out of memory: {-(-size // training.machine.accumulation)} pictures at a time do not fit into "
        f"{room()}; {at_once} {'does' if at_once == 1 else 'do'}.\n{_set(ways or _less(training))}."
    )


def _nothing_fits(training: Training, parts: int, outcome: Outcome) -> str:
    """What to set where no number of parts does; `parts`: the most that were too large."""
    params, ways = training.params, _less(training)
    if outcome is Outcome.TOO_LARGE:
        return f"train: out of memory: not even one picture at a time fits into {room()}.\n{_set(ways)}."
    at_once, pairs = -(-training.batch_size // parts), 2 * params.train.accumulation
    if at_once > 2 and _let_in(params, "train", batch_size=pairs):
        ways.insert(0, f"train.batch_size: {pairs}, which is a guess: untried")
    return (
        f"train: out of memory: {at_once} pictures at a time do not fit into {room()}, and batch normalisation has too "
        f"little to go by in one.\n{_set(ways)}, or a model without batch normalisation."
    )


def _less(training: Training) -> list[str]:
    """What takes less memory whatever a batch is."""
    recomputed = training.params.train.recompute or not blocks_of(training.machine.learner.network)
    return [*([] if recomputed else ["train.recompute: true"]), "a smaller model or augment.size"]


def _set(ways: Sequence[str]) -> str:
    """What to do, from assignments and what is to be chosen anew."""
    set_to, taken = [way for way in ways if ": " in way], [f"take {way}" for way in ways if ": " not in way]
    words = ", or ".join([*([f"set {set_to[0]}", *set_to[1:]] if set_to else []), *taken])
    return words[0].upper() + words[1:]


def _let_in(params: TrainParams, section: str, **options: object) -> bool:
    """Whether the door would let these params in with other options of a section."""
    changed = getattr(params, section).model_copy(update=options)
    return not any(clashes(params.model_copy(update={section: changed})))


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


def _tried(training: Training) -> tuple[int, Outcome]:
    """In how many parts the next steps fit, the fewest of twice, four times, ... as many as now; or that they do in
    none, and the most parts that were too large."""
    machine, before = training.machine, training.machine.accumulation
    outcome = Outcome.TOO_LARGE
    for parts in _more(before, training.batch_size):
        machine.accumulation = parts
        outcome = _outcome(training)
        _free(training)
        go_back(training)  # in as many parts as it was
        if outcome is Outcome.FITS:
            return parts, outcome
        before = parts if outcome is Outcome.TOO_LARGE else before
    return before, outcome


def _more(parts: int, size: int) -> Iterator[int]:
    """Numbers of parts to try, the fewest first: as long as possible none is of one picture, which is too few for some
    networks."""
    pairs, least = size // 2, parts
    while 2 * parts < pairs:
        parts *= 2
        yield parts
    if least < pairs:
        yield pairs
    if least < size:
        yield size


def _outcome(training: Training) -> Outcome:
    try:
        with closing(rest_of_epoch(training)) as steps:
            for step in islice(steps, TRIED):
                step.loss.item()  # waits for the device
        return Outcome.FITS
    except (RuntimeError, MemoryError, ValueError) as error:
        if too_few(error):
            return Outcome.TOO_FEW
        if not ran_out(error):
            raise
        return Outcome.TOO_LARGE


def _free(training: Training) -> None:
    """Let go of what a failed step has left."""
    training.machine.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if training.machine.device.type == "cuda":
        torch.cuda.empty_cache()
