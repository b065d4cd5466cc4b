"""What a detector's errors cost: of the classes at every place it looks at, and of the boxes at those with an object.

By default each network learns as its own paper has it. Places within a crowd that are at no object count for nothing.

Sources: Lin et al. Focal Loss for Dense Object Detection, 2017, equation 5; Liu et al. SSD, 2016, section 2.2 (hard
negative mining); Girshick. Fast R-CNN, 2015, equation 3 (smooth L1); Zhang et al. VarifocalNet, 2021, equation 2; Cai
et al. Align-DETR, 2023 (IoU-aware); Li et al. Generalized Focal Loss, 2020, equations 2 (focal costs of soft scores)
and 6 (distributions); of the overlaps see `_boxes.py`.
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
from pipeline.losses._small_masks import Masks, mask_costs
from pipeline.networks import BACKGROUND, Matched, Predictions

ALPHA, GAMMA = 0.25, 2.0
"""Of the focal loss, as in the paper."""
VARIFOCAL_ALPHA, VARIFOCAL_GAMMA = 0.75, 2.0
"""Likewise."""

Classes = Literal["focal", "cross_entropy", "varifocal", "iou_aware"]
Boxes = Literal["l1", "smooth_l1", "giou", "diou", "ciou"]


class Config(LossConfig):
    """The sum of both, over all stages of the network."""

    takes: ClassVar[frozenset[tuple[Output, Target]]] = frozenset(
        {(Output.BOXES, Target.OBJECTS), (Output.INSTANCES, Target.INSTANCES)}
    )

    boxes: Literal["own", "smooth_l1", "giou", "diou", "ciou"] = "own"
    """`own`: as the paper of the network has it; `smooth_l1`: the difference of the numbers that the network says;
    `giou`, `diou`, `ciou`: by the overlap of the boxes, which is what the scores measure."""
    classes: Literal["own", "focal", "cross_entropy", "varifocal", "iou_aware"] = "own"
    """`own`: as the paper of the network has it; `focal` lets easy places fade, all of which count then;
    `cross_entropy`; `varifocal` lets the background alone fade, and objects count by how well they are to be found;
    `iou_aware` lets it fade too, and objects count alike."""
    box_weight: float = Field(1.0, ge=0, le=1000)
    """What the cost of the boxes is multiplied by, beyond what the paper of the network has."""
    class_weight: float = Field(1.0, ge=0, le=1000)
    """What the cost of the classes is multiplied by, likewise."""
    masks: Masks = "cross_entropy"
    """Of networks that tell masks: `cross_entropy`, by cell; `dice`, by overlap; or `both`."""
    mask_weight: float = Field(1.0, ge=0, le=1000)
    """What the cost of the masks is multiplied by, likewise."""

    def build(self, counts: Sequence[int], outputs: int) -> nn.Module:
        """See `LossConfig.build`."""
        return Detection(self)


class Detection(nn.Module):
    """What a detector thinks, and targets as its `Predictions` want them, to a scalar."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def forward(self, predictions: Predictions, targets: Tensor) -> Tensor:
        """See the class."""
        total = targets.new_zeros((), dtype=torch.float32)
        for matched in predictions.matched(targets):
            total = total + detection_loss(matched, self.config)
        return total


def detection_loss(matched: Matched, config: Config) -> Tensor:
    """What one stage of a detector costs, a scalar."""
    own = matched.costs
    classes = class_loss(matched, own.classes if config.classes == "own" else config.classes)
    boxes = own.box_weight * box_loss(matched, own.boxes if config.boxes == "own" else config.boxes)
    if matched.distributions is not None:
        boxes = boxes + own.distribution_weight * distribution_loss(matched)
    total = config.class_weight * own.class_weight * classes + config.box_weight * boxes
    if (masks := matched.masks) is not None:
        costs = (mask_costs(masks.logits, masks.true, config.masks) * masks.shares).sum()
        total = total + config.mask_weight * own.mask_weight * costs
    return total if matched.further is None else total + matched.further


def class_loss(matched: Matched, kind: Classes) -> Tensor:
    """What the classes of all places cost, a scalar."""
    costs = _softmax_costs(matched, kind) if matched.exclusive else _sigmoid_costs(matched, kind)
    shares = matched.shares
    if matched.costs.mined and kind == "cross_entropy":
        shares = torch.where(_counted(matched, costs.detach()), shares, 0.0)
    return (costs * shares).sum()


def _softmax_costs(matched: Matched, kind: Classes) -> Tensor:
    """float32 [B, A]."""
    classes = (matched.labels.clamp(min=BACKGROUND) + 1).flatten()
    costs = F.cross_entropy(matched.logits.flatten(0, 1), classes, reduction="none")
    wrong = costs.neg().expm1().neg().clamp(min=0)  # 1 - p of what is true
    if kind == "focal":
        costs = _balanced(classes > 0) * wrong**GAMMA * costs
    elif kind in ("varifocal", "iou_aware"):
        costs = torch.where(classes > 0, 1.0, VARIFOCAL_ALPHA * wrong**VARIFOCAL_GAMMA) * costs
    return costs.view(matched.labels.shape)


def _sigmoid_costs(matched: Matched, kind: Classes) -> Tensor:
    """The sum over the classes: float32 [B, A]."""
    logits, true = matched.logits, _true_scores(matched)
    costs = F.binary_cross_entropy_with_logits(logits, true, reduction="none")
    if kind == "focal" and matched.scores is not None:
        costs = (true - logits.sigmoid()).abs() ** GAMMA * costs
    elif kind == "focal":
        said = logits.sigmoid()
        wrong = said + true - 2 * said * true  # 1 - p of what is true
        costs = _balanced(true > 0) * wrong**GAMMA * costs
    elif kind == "varifocal":
        costs = torch.where(true > 0, true, VARIFOCAL_ALPHA * logits.sigmoid() ** VARIFOCAL_GAMMA) * costs
    elif kind == "iou_aware":
        costs = torch.where(true > 0, 1.0, logits.sigmoid() ** GAMMA) * costs
    return costs.sum(dim=2)


def _true_scores(matched: Matched) -> Tensor:
    """What to say of each class at each place: float32 [B, A, K]."""
    classes = torch.arange(matched.logits.shape[2], device=matched.logits.device)
    true = (matched.labels[..., None] == classes).float()
    if matched.scores is not None:
        # By a mask in the index it would wait for the device to count the places.
        sure = torch.zeros_like(matched.shares).masked_scatter(matched.labels >= 0, matched.scores)
        true = true * sure[..., None]
    return true


def _balanced(positive: Tensor) -> Tensor:
    return torch.where(positive, ALPHA, 1 - ALPHA)


def _counted(matched: Matched, costs: Tensor) -> Tensor:
    """The places at objects, and of the background the worst, so many for each of them; of a picture without objects as
    many as for one: bool [B, A]."""
    objects, background = matched.labels >= 0, matched.labels == BACKGROUND
    wanted = matched.costs.mined * objects.sum(dim=1, keepdim=True).clamp(min=1)
    order = costs.masked_fill(~background, -torch.inf).argsort(dim=1, descending=True)
    return objects | (background & (order.argsort(dim=1) < wanted))


def box_loss(matched: Matched, kind: Boxes) -> Tensor:
    """What the boxes at objects cost, a scalar."""
    if kind == "l1":
        costs = (matched.codes - matched.true_codes).abs().sum(dim=1)
    elif kind == "smooth_l1":
        beta = matched.costs.beta
        costs = F.smooth_l1_loss(matched.codes, matched.true_codes, reduction="none", beta=beta).sum(dim=1)
    else:
        costs = overlap_loss(matched.boxes, matched.true_boxes, kind)
    return (costs * matched.box_shares).sum()


def distribution_loss(matched: Matched) -> Tensor:
    """What the distributions of the codes cost, a scalar, the mean over the four of them.

    Those two numbers that a true code lies between shall be likely, and the nearer one more so.
    """
    assert matched.distributions is not None
    true, last = matched.true_codes, matched.distributions.shape[2] - 1
    below = true.floor().clamp(0, last - 1)
    above_share = true - below
    nats = -F.log_softmax(matched.distributions, dim=2)
    below_at = below.long()[..., None]
    costs = (1 - above_share) * nats.gather(2, below_at)[..., 0] + above_share * nats.gather(2, below_at + 1)[..., 0]
    return (costs.mean(dim=1) * matched.box_shares).sum()
