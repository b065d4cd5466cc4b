"""Cross-entropy: the surprise, in nats, at the true class.

Source: the label smoothing is that of Szegedy et al. Rethinking the Inception Architecture, 2015, section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._class_weights import ClassWeights, class_weights
from pipeline.losses._pixels import across, known_weight, members, safe
from pipeline.masks import VOID


class Config(LossConfig):
    """Mean cross-entropy; with class weights, the weighted mean, as in torch.

    Void pixels of a mask count for nothing.
    """

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset(
        {(Output.VECTOR, Target.LABEL), (Output.VECTOR, Target.GRADE), (Output.MAP, Target.MASK)}
    )

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target that is spread evenly over all classes, against overconfidence."""
    class_weights: ClassWeights = "none"
    """`none`, `balanced` (a rare class counts for more: every class has the same say), or a list of one per class."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`.

        Raises:
            UserError: as many weights as there are classes are needed.
        """
        return CrossEntropy(class_weights(self.class_weights, counts), label_smoothing=self.label_smoothing)


class CrossEntropy(nn.CrossEntropyLoss):
    """torch's, and that of masks with void pixels."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean of a batch, in nats; 0 where no pixel is known.

        Args:
            logits: raw class scores, float [B, K] or [B, K, H, W].
            targets: true class ids, int64 [B], or uint8 [B, H, W] with 255 where nothing is said.
        """
        if targets.ndim == 1:
            return super().forward(logits, targets)
        # torch's loss of maps (nll_loss2d) is refused in deterministic mode on a GPU.
        wanted = members(logits, targets).to(logits.dtype)
        share = across(wanted, self.weight)
        if self.label_smoothing:
            known = (targets != VOID).unsqueeze(1).to(logits.dtype)
            wanted = wanted.mul(1 - self.label_smoothing) + known * (self.label_smoothing / logits.shape[1])
        return across(wanted * logits.log_softmax(dim=1), self.weight).sum().neg() / safe(share.sum())

    def total_weight(self, targets: Tensor) -> Tensor | float:
        """See `training.Weighing`."""
        if targets.ndim > 1:
            return known_weight(targets, self.weight)
        return len(targets) if self.weight is None else self.weight[targets].sum()
