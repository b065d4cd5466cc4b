"""What a detector's errors cost: of the classes at every place it looks at, and of the boxes at those with an object.

By default each network learns as its own paper has it. Places within a crowd that are at no object count for nothing.

Sources: Lin et al. Focal Loss for Dense Object Detection, 2017, equation 5; Liu et al. SSD, 2016, section 2.2 (hard
negative mining); Girshick. Fast R-CNN, 2015, equation 3 (smooth L1); of the overlaps see `_boxes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.contracts import LossConfig, Output, Target
from pipeline.losses._boxes import overlap_loss
from pipeline.networks import BACKGROUND, Matched, Predictions

ALPHA, GAMMA = 0.25, 2.0
"""Of the focal loss, as in the paper."""


class Config(LossConfig):
    """The sum of both, over all stages of the network."""

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset({(Output.BOXES, Target.OBJECTS)})

    boxes: Literal["own", "smooth_l1", "giou", "diou", "ciou"] = "own"
    """`own`: as the paper of the network has it; `smooth_l1`: the difference of the numbers that the network says;
    `giou`, `diou`, `ciou`: by the overlap of the boxes, which is what the scores measure."""
    classes: Literal["own", "focal", "cross_entropy"] = "own"
    """`own`: as the paper of the network has it; `focal` lets easy places fade, all of which count then;
    `cross_entropy`."""
    box_weight: float = Field(1.0, ge=0, le=1000)
    """What the cost of the boxes is multiplied by."""
    class_weight: float = Field(1.0, ge=0, le=1000)
    """What the cost of the classes is multiplied by."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return Detection(self)


class Detection(nn.Module):
    """What a detector thinks, and targets float32 [B, M, 6], to a scalar."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, predictions: Predictions, targets: Tensor) -> Tensor:
        """See the class."""
        config, total = self.config, targets.new_zeros(())
        for matched in predictions.matched(targets):
            classes = class_loss(matched, matched.costs.classes if config.classes == "own" else config.classes)
            boxes = box_loss(matched, matched.costs.boxes if config.boxes == "own" else config.boxes)
            total = total + config.class_weight * classes + config.box_weight * boxes
            if matched.further is not None:
                total = total + matched.further
        return total


def class_loss(matched: Matched, kind: Literal["focal", "cross_entropy"]) -> Tensor:
    """What the classes of all places cost, a scalar."""
    if matched.exclusive:
        costs = _softmax_costs(matched, focal=kind == "focal")
    else:
        costs = _sigmoid_costs(matched, focal=kind == "focal")
    shares = matched.shares
    if matched.costs.mined and kind == "cross_entropy":
        shares = torch.where(_counted(matched, costs.detach()), shares, 0.0)
    return (costs * shares).sum()


def _softmax_costs(matched: Matched, focal: bool) -> Tensor:
    """float32 [B, A]."""
    classes = (matched.labels.clamp(min=BACKGROUND) + 1).flatten()
    costs = F.cross_entropy(matched.logits.flatten(0, 1), classes, reduction="none")
    if focal:
        costs = _balanced(classes > 0) * costs.neg().expm1().neg().clamp(min=0) ** GAMMA * costs
    return costs.view(matched.labels.shape)


def _sigmoid_costs(matched: Matched, focal: bool) -> Tensor:
    """The sum over the classes: float32 [B, A]."""
    logits, classes = matched.logits, torch.arange(matched.logits.shape[2], device=matched.logits.device)
    true = (matched.labels[..., None] == classes).float()
    costs = F.binary_cross_entropy_with_logits(logits, true, reduction="none")
    if focal:
        said = logits.sigmoid()
        wrong = said + true - 2 * said * true  # 1 - p of what is true
        costs = _balanced(true > 0) * wrong**GAMMA * costs
    return costs.sum(dim=2)


def _balanced(positive: Tensor) -> Tensor:
    return torch.where(positive, ALPHA, 1 - ALPHA)


def _counted(matched: Matched, costs: Tensor) -> Tensor:
    """The places at objects, and of the background the worst, so many for each of them; of a picture without objects as
    many as for one: bool [B, A]."""
    objects, background = matched.labels >= 0, matched.labels == BACKGROUND
    wanted = matched.costs.mined * objects.sum(dim=1, keepdim=True).clamp(min=1)
    order = costs.masked_fill(~background, -torch.inf).argsort(dim=1, descending=True)
    return objects | (background & (order.argsort(dim=1) < wanted))


def box_loss(matched: Matched, kind: Literal["l1", "smooth_l1", "giou", "diou", "ciou"]) -> Tensor:
    """What the boxes at objects cost, a scalar."""
    if kind == "l1":
        costs = (matched.codes - matched.true_codes).abs().sum(dim=1)
    elif kind == "smooth_l1":
        beta = matched.costs.beta
        costs = F.smooth_l1_loss(matched.codes, matched.true_codes, reduction="none", beta=beta).sum(dim=1)
    else:
        costs = overlap_loss(matched.boxes, matched.true_boxes, kind)
    return (costs * matched.box_shares).sum()
