"""Where the arithmetic is done, and the switches that make it give the same bits every time."""

from __future__ import annotations

import os

import torch

from pipeline.errors import UserError
from pipeline.host import cores

# cuBLAS reads this when it starts; without it, deterministic matrix products are refused.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pick(wanted: str) -> torch.device:
    """The device that `compute.device` asks for.

    Raises:
        UserError: it is not on this machine.
    """
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    if wanted == "auto":
        return torch.device(found[0] if found else "cpu")
    name = "cuda:0" if wanted == "cuda" else wanted
    if name != "cpu" and name not in found:
        seen = ", ".join(["cpu", *found])
        raise UserError(
            f"params.yaml: compute.device asks for {wanted!r}, but torch sees only: {seen}. "
            "Set `auto`, or install a driver and a build of torch that match the GPU."
        )
    return torch.device(name)


def identity(device: torch.device) -> str:
    """What names the device on this machine, whatever number it has for this process: `cpu`, or a GPU's own id."""
    return f"gpu-{torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else device.type


def set_up(wanted: str, threads: int) -> torch.device:
    """Pick the device and make every operation on it repeatable.

    One thread or two give different bits, so the number of threads is part of what a run is: 0 takes every core that
    this process may use.
    """
    device = pick(wanted)
    torch.set_num_threads(threads or cores())
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms imports the compiler first: 1.9 s
    # Deterministic mode would also fill all new memory, for those who read it before they write; here nobody does, and
    # filling takes a twentieth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    return device


def reseed(device: torch.device, seed: int) -> None:
    """Seed torch's generators of the processor and of one device, to the numbers that `torch.manual_seed` gives.

    That function speaks to every kind of device there may be, and notes where it was called from for each that has not
    been used: 300 microseconds, and memory that is never freed, in every step. (Measured on 2 cores without a GPU.)
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
