"""Between the processor and the device: what goes over together is waited for once, or not at all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sent(parts: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of the processor on the device, in one copy.

    Args:
        parts: int64 [n] each, any n.
        device: where they are wanted.
    """
    whole = torch.cat(list(parts))
    if device.type == "cuda":  # from pinned memory, which torch keeps until the copy is done, nobody waits for it
        whole = whole.pin_memory()
    return list(torch.split(whole.to(device, non_blocking=True), [len(part) for part in parts]))


def told(*parts: Tensor) -> list[Tensor]:
    """Tensors of the device on the processor, in one copy, which is waited for.

    Args:
        parts: int64, of any shapes.
    """
    whole = torch.cat([part.flatten() for part in parts]).cpu()
    each = torch.split(whole, [part.numel() for part in parts])
    return [found.view(part.shape) for found, part in zip(each, parts, strict=True)]
