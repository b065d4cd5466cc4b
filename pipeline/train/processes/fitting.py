"""Where several processes fit, and where they do not: it is said before any work is done."""

from __future__ import annotations

import torch

from pipeline.devices import set_up
from pipeline.errors import UserError
from pipeline.host import cores
from pipeline.params import TrainParams, part_name
from pipeline.train.machine import Arithmetic
from pipeline.train.processes.place import Place, place
from pipeline.train.processes.ranks import Ranks
from pipeline.train_options import ComputeOptions
from pipeline.training import Average


def joined(params: TrainParams) -> tuple[Ranks, torch.device]:
    """The processes that this one trains with, and what it computes on.

    Raises:
        UserError: the device is not there, or several processes cannot do what params ask for.
    """
    here = place() or Place(0, 1)
    check(params, here)
    device = set_up(device_of(params.compute, here), threads_of(params.compute, here))
    return Ranks.joined(device), device


def device_of(compute: ComputeOptions, place: Place) -> str:
    """What to compute on, as `devices.pick` takes it: each process on a GPU of its own, or all on the processor.

    Raises:
        UserError: there are fewer GPUs than processes.
    """
    wanted = compute.device
    if place.of == 1 or wanted == "cpu":
        return wanted
    found = torch.cuda.device_count()
    if wanted == "auto" and not found:
        return "cpu"
    if wanted not in ("auto", "cuda") or found < place.of:
        raise UserError(
            f"params.yaml: {place.of} processes need a GPU each, but compute.device is {wanted!r} and torch sees "
            f"{found} of them.\nSet compute.processes to at most {max(found, 1)}, or compute.device to auto or cpu."
        )
    return f"cuda:{place.rank}"


def threads_of(compute: ComputeOptions, place: Place) -> int:
    """For computing, of each process: where params leave it open, the cores are shared out."""
    return compute.threads or max(1, cores() // place.of)


def check(params: TrainParams, place: Place) -> None:
    """Make sure that several processes can do what params ask for.

    Raises:
        UserError: they cannot.
    """
    if place.of == 1:
        return
    train, compute = params.train, params.compute
    if train.accumulation > (alone := len(range(train.batch_size)[Ranks(*place).share(train.batch_size)])):
        raise UserError(
            f"params.yaml: train.accumulation is {train.accumulation}, but {alone} pictures of a batch fall to each of "
            f"{place.of} processes.\nSet train.accumulation to at most {alone}, or fewer processes."
        )
    if train.when_diverging == "rollback":
        raise _unfit("train.when_diverging 'rollback' works", "stop")
    if train.when_out_of_memory == "halve":
        raise _unfit("train.when_out_of_memory 'halve' works", "stop")
    if not compute.sharded:
        return
    if any(params.order.measures(epoch, train.epochs) for epoch in range(train.epochs)):
        raise _unsharded(f"order {part_name(params.order)!r} asks the network in between", "order to shuffled")
    if 0 < params.layers.frozen_epochs < train.epochs or params.layers.thawing_epochs:
        raise _unsharded("layers that rest at first stay as they are", "layers.frozen_epochs and thawing_epochs to 0")
    if compute.precision == "float16":
        raise _unsharded("float16 needs to know every gradient", "compute.precision to bfloat16")
    if compute.compile == "always":
        raise _unsharded("the compiler takes whole tensors", "compute.compile to never")


def unmeasured(compute: ComputeOptions, device: torch.device) -> Arithmetic:
    """How to compute where no process could try it alone: the network may not fit into one."""
    precision = "bfloat16" if device.type == "cuda" else "float32"
    return Arithmetic(
        precision if compute.precision == "auto" else compute.precision,
        "contiguous" if compute.memory_format == "auto" else compute.memory_format,
    )


def check_average(params: TrainParams, average: Average | None) -> None:
    """The same of an average of weights, once it is known what it needs."""
    if params.compute.sharded and average and average.refreshes:
        raise _unsharded(f"average {part_name(params.average)!r} asks the network in between", "average to ema")


def _unfit(what: str, instead: str) -> UserError:
    return UserError(f"params.yaml: {what} in one process.\nSet it to {instead!r}, or compute.processes to 1.")


def _unsharded(why: str, instead: str) -> UserError:
    return UserError(
        f"params.yaml: compute.sharded shares tensors out among the processes, but {why}.\n"
        f"Set {instead}, or compute.sharded to false."
    )
