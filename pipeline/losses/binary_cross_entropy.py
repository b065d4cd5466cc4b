"""Binary cross-entropy: the surprise, in nats, at whether an image is of a class, for each class by itself.

Source: the weights of positives are those of King, Zeng. Logistic Regression in Rare Events Data, 2001, section 4.2;
the label smoothing that of Szegedy et al. Rethinking the Inception Architecture, 2015, section 7, for two classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._class_weights import ClassWeights, class_weights


class Config(LossConfig):
    """The mean over images and classes."""

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.VECTOR, Target.LABELS)})

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over yes and no, against overconfidence."""
    positive_weights: ClassWeights = "none"
    """How much an image counts that is of a class: `none` (as much as one that is not), `balanced` (more for a rare
    class: the positives of every class have the same say), or a list of one per class."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`.

        Raises:
            UserError: as many weights as there are classes are needed.
        """
        weights = class_weights(self.positive_weights, counts, "positive_weights")
        return BinaryCrossEntropy(self.label_smoothing, torch.ones(len(counts)) if weights is None else weights)


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy with its settings; the weights of the classes move to the device with it."""

    weights: Tensor

    def __init__(self, label_smoothing: float, weights: Tensor) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean of a batch, in nats.

        Args:
            logits: raw class scores, float [B, K].
            targets: whether each image is of each class, uint8 [B, K].
        """
        wanted = targets.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=self.weights)
