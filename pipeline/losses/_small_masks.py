"""What the small masks of objects cost, m x m cells within a box each.

Sources: He et al. Mask R-CNN, 2017, section 3 (binary cross-entropy, the mean over the cells, of the true class alone);
Milletari, Navab, Ahmadi. V-Net, 2016, section 3 (Dice, which does not mind how much of a box its object fills).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Masks = Literal["cross_entropy", "dice", "both"]
SMOOTH = 1.0
"""Cells added above and below in Dice, so that an empty mask has a slope."""


def mask_costs(logits: Tensor, true: Tensor, kind: Masks) -> Tensor:
    """The cost of each mask.

    Args:
        logits: float32 [n, m, m].
        true: shares of the cells, float32 [n, m, m].
        kind: `both` is the sum.

    Returns:
        float32 [n].
    """
    logits, true = logits.flatten(1), true.flatten(1)
    total = logits.new_zeros(len(logits))
    if kind != "dice":
        total = total + F.binary_cross_entropy_with_logits(logits, true, reduction="none").mean(dim=1)
    if kind != "cross_entropy":
        said = logits.sigmoid()
        common = (said * true).sum(dim=1)
        total = total + 1 - (2 * common + SMOOTH) / (said.sum(dim=1) + true.sum(dim=1) + SMOOTH)
    return total
