"""Where several processes cannot do together what one does alone."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.params import TrainParams, part_name


def of_processes(params: TrainParams) -> Iterator[str]:
    """Where several processes cannot do together what one does alone."""
    train, count = params.train, params.compute.processes
    if count == 1:
        return
    if train.batch_size % count:
        yield (
            f"compute.processes is {count}, but train.batch_size is {train.batch_size}, which has no {count} equal "
            f"parts; set {_shareable(train.batch_size, count)}."
        )
    elif train.accumulation > (share := train.batch_size // count):
        yield (
            f"train.accumulation is {train.accumulation}, but {share} pictures of a batch fall to each of {count} "
            f"processes; set it to at most {share}, or compute.processes to less."
        )
    if train.when_out_of_memory == "halve":
        yield (
            "train.when_out_of_memory 'halve' works in one process: of several, the others wait for the one that ran "
            "out; set it to stop, and train.accumulation to more where memory is short, or compute.processes to 1."
        )
    if params.compute.sharded:
        for why, instead in _of_shards(params):
            yield (
                f"compute.sharded shares tensors out among the processes, but {why}; set {instead}, or compute.sharded "
                "to false."
            )


def _shareable(size: int, count: int) -> str:
    """What could be set so that processes get equal parts of a batch: as many as there are wanted, or a few less."""
    divisors = [str(number) for number in range(1, min(size, count) + 1) if size % number == 0]
    words = f"compute.processes to {' or '.join(divisors[-3:])}"
    return words if size < count else f"{words}, or train.batch_size to {size - size % count}"


def _of_shards(params: TrainParams) -> Iterator[tuple[str, str]]:
    """Why weights cannot be shared out, and what to set instead."""
    train, layers, compute = params.train, params.layers, params.compute
    if any(params.order.measures(epoch, train.epochs) for epoch in range(train.epochs)):
        yield f"order {part_name(params.order)!r} asks the network in between", "order to shuffled"
    if 0 < layers.frozen_epochs < train.epochs or layers.thawing_epochs:
        yield "layers that rest at first stay as they are", "layers.frozen_epochs and thawing_epochs to 0"
    if compute.precision == "float16":
        yield "float16 needs to know every gradient", "compute.precision to bfloat16"
    if compute.compile == "always":
        yield "the compiler takes whole tensors", "compute.compile to never"
