"""A plan where the pictures lie: torch changes all of them at once, by operations whose result is always the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.variations.plan import Plan
from pipeline.variations.sight import Sight
from pipeline.variations.step import Drawn


def vary(plan: Plan, pictures: Tensor, which: np.ndarray, drawn: Sequence[Drawn]) -> Tensor:
    """Some of the pictures of a set, changed.

    What moves along rows and columns is done in one pass; nothing in between is kept in more than bytes, but for what
    a blend of four pixels needs.

    Args:
        plan: whose steps.
        pictures: uint8 [N, P, P, C].
        which: of them, int64 [B].
        drawn: what each step does to these B.

    Returns:
        uint8 [B, S, S, C] on the same device.
    """
    device = pictures.device
    sight = Sight.of(pictures, sent(which, device))
    for step, (happens, values) in zip(plan.steps, drawn, strict=True):
        sight = step.on_device(sight, sent(happens, device), sent(values, device))
    return sight.painted()


def sent(values: np.ndarray, device: torch.device) -> Tensor:
    """An array on the device. From pinned memory a GPU fetches it in its turn, and nobody waits for that."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
