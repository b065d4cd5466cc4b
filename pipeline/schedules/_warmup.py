"""The first steps, which every schedule takes small: the gradients of fresh weights are wild."""

from __future__ import annotations


def warmup(step: int, warmup_steps: int) -> float:
    """1/(n+1), 2/(n+1) ... over the first n steps, and 1 from step n on; `step` is 0-based."""
    return min(1.0, (step + 1) / (warmup_steps + 1))
