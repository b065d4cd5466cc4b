"""The first steps, which every schedule takes small: the gradients of fresh weights are wild."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.training import Course


def warmup(step: int, warmup_steps: int) -> float:
    """1/(n+1), 2/(n+1) ... over the first n steps, and 1 from step n on; `step` is 0-based."""
    return min(1.0, (step + 1) / (warmup_steps + 1))


def climb(at: Course, warmup_epochs: float, before: int | None = None) -> int:
    """The first steps, in which the rate climbs: no more than half of those before it falls, so that it always does.

    Args:
        at: any step.
        warmup_epochs: that are asked for.
        before: steps before it falls; None: those of the whole training.
    """
    most = (at.steps_per_epoch * at.epochs if before is None else before) // 2
    return round(min(warmup_epochs * at.steps_per_epoch, most))


def after_warmup(at: Course, warmup_epochs: float, factor: Callable[[float], float]) -> float:
    """The climb, and then a factor that depends on how much of the way from the crest to the end lies behind.

    Args:
        at: the step.
        warmup_epochs: in which the rate climbs.
        factor: from that share, in 0..1; it is 1 only after the last step.
    """
    climbing = climb(at, warmup_epochs)
    if at.step < climbing:
        return warmup(at.step, climbing)
    return factor(min(1.0, (at.step - climbing) / max(1, at.steps_per_epoch * at.epochs - climbing)))
