"""Asymmetric loss: of the many classes that an image is not of, those that are clearly absent count for nothing.

Source: Ridnik, Ben-Baruch, Zamir, Noy, Friedman, Protter, Zelnik-Manor. Asymmetric Loss for Multi-Label
Classification, 2021, equations 4 to 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import LossConfig, Output, Target

SMALLEST = 1e-12
"""Of what is raised to a power: the slope of x ** gamma at 0 is infinite where gamma < 1."""


class Config(LossConfig):
    """The mean over images and classes, where the paper's code sums; the defaults are the paper's."""

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.VECTOR, Target.LABELS)})

    gamma_pos: float = Field(0.0, ge=0, le=100)
    """How fast an image that is of a class fades once that is said; 0 is plain cross-entropy."""
    gamma_neg: float = Field(4.0, ge=0, le=100)
    """Likewise of an image that is not of a class."""
    clip: float = Field(0.05, ge=0, lt=1)
    """Subtracted from the probability of a class that is absent: less than that costs nothing."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return Asymmetric(self.gamma_pos, self.gamma_neg, self.clip)


class Asymmetric(nn.Module):
    """`asymmetric` with its settings."""

    def __init__(self, gamma_pos: float, gamma_neg: float, clip: float) -> None:
        super().__init__()
        self.gamma_pos, self.gamma_neg, self.clip = gamma_pos, gamma_neg, clip

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """See `asymmetric`."""
        return asymmetric(logits, targets, self.gamma_pos, self.gamma_neg, self.clip)


def asymmetric(logits: Tensor, targets: Tensor, gamma_pos: float, gamma_neg: float, clip: float) -> Tensor:
    """Mean asymmetric loss of a batch, in nats.

    Args:
        logits: raw class scores, float [B, K].
        targets: whether each image is of each class, uint8 [B, K].
        gamma_pos: >= 0, of images that are of a class.
        gamma_neg: >= 0, of images that are not.
        clip: in 0..1, subtracted from the probability of an absent class.

    Returns:
        Scalar >= 0.
    """
    present = targets.to(logits.dtype)
    absence = (-logits).sigmoid()  # 1 - p
    positive = absence.clamp(min=SMALLEST) ** gamma_pos * F.logsigmoid(logits)
    # log(1 - max(p - clip, 0)); without clip by way of the logits, or a sure mistake would cost infinitely much.
    log_absence = (absence + clip).clamp(max=1).log() if clip else F.logsigmoid(-logits)
    negative = (1 - absence - clip).clamp(min=SMALLEST) ** gamma_neg * log_absence
    return (present * positive + (1 - present) * negative).mean().neg()
