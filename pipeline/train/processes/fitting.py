"""Where several processes fit, and where they do not: it is said before any work is done."""

from __future__ import annotations

import os

import torch

from pipeline.devices import set_up
from pipeline.errors import UserError
from pipeline.host import cores
from pipeline.params import TrainParams, part_name
from pipeline.train.machine import Arithmetic
from pipeline.train.processes.place import Place, by_torchrun, place
from pipeline.train.processes.ranks import Ranks
from pipeline.train_options import ComputeOptions
from pipeline.training import Average


def joined(params: TrainParams) -> tuple[Ranks, torch.device]:
    """The processes that this one trains with, and what it computes on.

    Raises:
        UserError: the device is not there, or torchrun has started other processes than params say.
    """
    here = place() or Place(0, 1)
    if by_torchrun():
        _check_started(params.compute.processes, here)
    device = set_up(device_of(params.compute, here), threads_of(params.compute, here))
    return Ranks.joined(device), device


def _check_started(wanted: int, here: Place) -> None:
    command = f"torchrun --nproc-per-node {wanted} -m pipeline train"
    if here.of != wanted:
        raise UserError(
            f"params.yaml: compute.processes is {wanted}, but torchrun has started {here.of}.\n"
            f"Start as many ({command}), or set compute.processes to {here.of}."
        )
    if (beside := int(os.environ["LOCAL_WORLD_SIZE"])) != wanted:
        raise UserError(
            f"train: torchrun has started {wanted} processes, but {beside} of them on this machine.\n"
            f"They read and write the same folder: start all on one machine, by {command}."
        )


def check_alike(ranks: Ranks, about: str) -> None:
    """Make sure that the processes are about to do the same: each has read params, data and code for itself.

    Raises:
        UserError: one of them has found others, as they were changed in between.
    """
    if len(set(ranks.all_of(about))) > 1:
        raise UserError(
            "train: the processes are not about to learn the same, for params.yaml, the data set or the code was "
            "changed while they started.\nLeave them alone until the first epoch has begun, and run again."
        )


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


def unmeasured(compute: ComputeOptions, device: torch.device) -> Arithmetic:
    """How to compute where no process could try it alone: the network may not fit into one."""
    precision = "bfloat16" if device.type == "cuda" else "float32"
    return Arithmetic(
        precision if compute.precision == "auto" else compute.precision,
        "contiguous" if compute.memory_format == "auto" else compute.memory_format,
    )


def check_average(params: TrainParams, average: Average | None) -> None:
    """Make sure that weights that are shared out can be averaged so, once it is known what an average needs.

    Raises:
        UserError: they cannot.
    """
    if params.compute.sharded and average and average.refreshes:
        raise UserError(
            "params.yaml: compute.sharded shares tensors out among the processes, but average "
            f"{part_name(params.average)!r} asks the network in between.\n"
            "Set average to ema, or compute.sharded to false."
        )
