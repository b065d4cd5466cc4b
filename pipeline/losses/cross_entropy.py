"""Cross-entropy: the surprise, in nats, at the true class.

Source: the label smoothing is that of Szegedy et al. Rethinking the Inception Architecture, 2015, section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._class_weights import ClassWeights, class_weights


class Config(LossConfig):
    """Mean cross-entropy; with class weights, the weighted mean, as in torch."""

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset(
        {(Output.VECTOR, Target.LABEL), (Output.MAP, Target.MASK)}
    )

    label_smoothing: float = Field(0.0, ge=0, le=1)
    """Share of the target that is spread evenly over all classes, against overconfidence."""
    class_weights: ClassWeights = "none"
    """`none`, `balanced` (a rare class counts for more: every class has the same say), or a list of one per class."""

    def build(self, counts: Sequence[int]) -> nn.Module:
        """See `LossConfig.build`.

        Raises:
            UserError: as many weights as there are classes are needed.
        """
        return nn.CrossEntropyLoss(class_weights(self.class_weights, counts), label_smoothing=self.label_smoothing)
