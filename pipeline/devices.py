"""Where the arithmetic is done, and the switches that make it give the same bits every time."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.errors import UserError
from pipeline.host import cores

# cuBLAS reads this when it starts; without it, deterministic matrix products are refused.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

_adaptive_avg_pool2d, _grid_sample = F.adaptive_avg_pool2d, F.grid_sample


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
    if device.type == "cuda":
        torch.cuda.set_device(device)  # whose events and memory torch otherwise takes to be those of the first one
        F.adaptive_avg_pool2d, F.grid_sample = averaged, sampled
    return device


def averaged(input: Tensor, output_size: Any) -> Tensor:  # noqa: A002
    """`F.adaptive_avg_pool2d`, which VGG, AlexNet and PSPNet call, with a gradient that is repeatable on a GPU.

    The kernel there has none, and deterministic mode raises. Means over windows of one size, and products of matrices,
    have one. Torch itself does likewise for `F.interpolate`.
    """
    maps, sides = input, input.shape[-2:]
    wanted = output_size if isinstance(output_size, list | tuple) else (output_size, output_size)
    parts = [side if part is None else part for part, side in zip(wanted, sides, strict=True)]
    if not _learns_on_gpu(maps) or parts == [1, 1]:  # of one part it is a plain mean
        return _adaptive_avg_pool2d(maps, output_size)
    if not any(side % part for side, part in zip(sides, parts, strict=True)):
        return F.avg_pool2d(maps, [side // part for side, part in zip(sides, parts, strict=True)])
    with torch.autocast(maps.device.type, enabled=False):
        wide = maps.to(torch.promote_types(maps.dtype, torch.float32))
        down, across = (_windows(side, part, wide) for side, part in zip(sides, parts, strict=True))
        return (down @ wide @ across.T).to(maps.dtype)


def _windows(side: int, parts: int, like: Tensor) -> Tensor:
    """Of each part the shares of the rows in its mean: [parts, side]."""
    rows, part = torch.arange(side, device=like.device), torch.arange(parts, device=like.device)[:, None]
    inside = (rows >= part * side // parts) & (rows < ((part + 1) * side + parts - 1) // parts)
    return inside.to(like.dtype) / inside.sum(dim=1, keepdim=True)


def sampled(
    input: Tensor,  # noqa: A002
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: Any = None,
) -> Tensor:
    """`F.grid_sample`, which RF-DETR calls, likewise; of its ways only the usual one: bilinear, and 0 beyond the edge.

    Args:
        input: maps, float [B, C, H, W].
        grid: places, x and y, each -1 to 1 from edge to edge, float [B, h, w, 2].
        mode: see torch.
        padding_mode: see torch.
        align_corners: whether -1 and 1 are the middles of the outermost cells.

    Returns:
        float [B, C, h, w].
    """
    maps, places = input, grid
    usual = (mode, padding_mode, maps.ndim) == ("bilinear", "zeros", 4)
    if not usual or not (_learns_on_gpu(maps) or _learns_on_gpu(places)):
        return _grid_sample(maps, places, mode, padding_mode, align_corners)
    height, width = maps.shape[2:]
    x, y = (
        ((at + 1) * (side - 1) if align_corners else (at + 1) * side - 1) / 2
        for at, side in zip(places.unbind(dim=3), (width, height), strict=True)
    )
    left, top = x.floor(), y.floor()
    cells = maps.flatten(2).transpose(1, 2)  # so that what one place adds to the gradient is one row
    picture = torch.arange(len(maps), device=maps.device)[:, None, None]
    found = maps.new_zeros(())
    for column, across in ((left, left + 1 - x), (left + 1, x - left)):
        for row, down in ((top, top + 1 - y), (top + 1, y - top)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            cell = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            found = found + cells[picture, cell] * torch.where(inside, across * down, 0)[..., None]
    return found.permute(0, 3, 1, 2)


def _learns_on_gpu(maps: Tensor) -> bool:
    return maps.is_cuda and maps.requires_grad and torch.are_deterministic_algorithms_enabled()


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
