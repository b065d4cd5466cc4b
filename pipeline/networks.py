"""Networks that do not learn from what they answer, and what their losses see of them.

A detector answers with boxes, after those that overlap have been suppressed, and learns from what it thinks of every
place where an object may be. Its two halves have names here, and so has what it thinks beside what is true.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.numbers import Scale

BACKGROUND = -1
IGNORED = -2
LARGEST = 80.0
"""A logarithm whose number is still one in float32."""
RAREST = 0.01
"""Of a class in a picture, as learning begins."""


class Deciding(nn.Module):
    """A network in two halves: `forward` is `answer(raw(pictures))`."""

    @abstractmethod
    def raw(self, pictures: Tensor) -> Any:
        """What the loss takes: pictures float32 [B, C, S, S] to whatever it is; of detectors `Predictions`."""

    @abstractmethod
    def answer(self, raw: Any) -> Tensor:
        """What the network says, of a size that does not depend on the pictures: boxes float32 [B, D, 6]."""

    def forward(self, pictures: Tensor) -> Tensor:
        """The answer to pictures float32 [B, C, S, S]."""
        return self.answer(self.raw(pictures))


class Informed(nn.Module):
    """A part of a network whose first weights come from training pictures. It sees pictures as the network does."""

    @abstractmethod
    def learn_from(self, pictures: Tensor) -> None:
        """Take first weights from some training pictures, float32 [N, C, S, S], normalised; on the processor."""


def learnt_from(network: nn.Module, pictures: Tensor) -> Any:
    """What the loss takes: of most networks what they answer."""
    return network.raw(pictures) if isinstance(network, Deciding) else network(pictures)


def answered(network: nn.Module, learnt: Any) -> Tensor:
    """The answer that comes of `learnt_from`."""
    answer: Tensor = network.answer(learnt) if isinstance(network, Deciding) else learnt
    return answer


class Measuring(Deciding):
    """A network that learns numbers as `numbers.encoded` has them, and answers in their own units."""

    def __init__(self, network: nn.Module, scales: Sequence[Scale]) -> None:
        """Of one to float32 [B, T'], a column of each number, of a circular one two."""
        super().__init__()
        self.network = network
        self.scales = tuple(scales)

    def raw(self, pictures: Tensor) -> Tensor:
        """Numbers as they are learnt, float32 [B, T']."""
        raw: Tensor = self.network(pictures)
        return raw

    def answer(self, raw: Tensor) -> Tensor:
        """The same as they are told, float32 [B, T]: `numbers.decoded`."""
        columns, told = raw.float().unbind(dim=1), []
        at = 0
        for scale in self.scales:
            if scale.kind == "circular":
                turn = torch.atan2(columns[at + 1], columns[at]) / (2 * math.pi)
                told.append(torch.remainder(torch.remainder(turn, 1.0), 1.0) * scale.period)  # see `decoded`
            else:
                wide = columns[at] * scale.deviation + scale.mean
                told.append(wide.clamp(max=LARGEST).exp() if scale.kind == "log" else wide)
            at += scale.columns
        return torch.stack(told, dim=1)


class Counting(Deciding):
    """A network that learns the logarithms of rates, and answers with the rates: how many are expected.

    Of a map every pixel has a rate of its own, and those of a picture add up: it counts here and there, and is asked
    for the sum alone.
    """

    starts: Tensor

    def __init__(self, network: nn.Module, means: Sequence[float]) -> None:
        """Of one to float32 [B, K] or [B, K, H, W]; where that is 0, the mean of each class is answered."""
        super().__init__()
        self.network = network
        starts = torch.tensor([math.log(max(mean, RAREST)) for mean in means])
        self.register_buffer("starts", starts, persistent=False)  # where the network is: a list would be sent each time

    def raw(self, pictures: Tensor) -> Tensor:
        """Logarithms of rates, float32 [B, K]."""
        found: Tensor = self.network(pictures).float()  # of 150 bfloat16 makes 148: one network would say two numbers
        if found.ndim == 4:
            pixels = found.flatten(2)
            found = pixels.logsumexp(dim=2) - math.log(pixels.shape[2])
        return found + self.starts

    def answer(self, raw: Tensor) -> Tensor:
        """Rates, float32 [B, K]."""
        return raw.float().clamp(max=LARGEST).exp()


@dataclass(frozen=True)
class Costs:
    """What a detector's own paper has its errors cost."""

    classes: Literal["focal", "cross_entropy", "varifocal", "iou_aware"]
    boxes: Literal["l1", "smooth_l1", "giou", "diou", "ciou"]
    beta: float = 1.0
    """Of smooth L1: errors beyond it cost their size, and smaller ones less."""
    mined: float = 0.0
    """If not 0, so many of the worst background places count for each place at an object, and no other."""
    class_weight: float = 1.0
    """What the cost of the classes is multiplied by."""
    box_weight: float = 1.0
    """What the cost of the boxes is multiplied by."""
    mask_weight: float = 1.0
    """What the cost of the masks is multiplied by, where there are any."""
    distribution_weight: float = 1.0
    """What the cost of the distributions is multiplied by, where there are any."""


@dataclass(frozen=True)
class MatchedMasks:
    """Which cells of a box, m x m, lie on its object, at some of the places at objects."""

    logits: Tensor
    """float32 [n, m, m]."""
    true: Tensor
    """Shares: float32 [n, m, m]."""
    shares: Tensor
    """What the cost of each mask is multiplied by before all are added up: float32 [n]."""


@dataclass(frozen=True)
class Matched:
    """What a detector says at A places of each picture, anchors, points or proposals, beside what is true there.

    At n of the B x A places there is an object, in order.
    """

    logits: Tensor
    """float32 [B, A, K], a sigmoid for each class; if `exclusive`, [B, A, K + 1], a softmax, the background first."""
    exclusive: bool
    labels: Tensor
    """Class ids, BACKGROUND, or IGNORED, which counts for nothing: int64 [B, A]."""
    shares: Tensor
    """What the cost of each place is multiplied by before all are added up: float32 [B, A]."""
    codes: Tensor
    """How the box is said to lie from its place, in the network's own code: float32 [n, 4]."""
    true_codes: Tensor
    """float32 [n, 4]."""
    boxes: Tensor
    """The same as corners, in pixels: float32 [n, 4]."""
    true_boxes: Tensor
    """float32 [n, 4]."""
    box_shares: Tensor
    """Like `shares`: float32 [n]."""
    costs: Costs
    further: Tensor | None = None
    """What the network wants to add to the loss: a scalar."""
    masks: MatchedMasks | None = None
    """Of a network that tells masks too."""
    scores: Tensor | None = None
    """How sure of the class to be, in 0..1, as where a score is to tell of the box too: float32 [n]; None: wholly."""
    distributions: Tensor | None = None
    """What each of the four codes is thought to be: logits of 0, 1, 2, ... R - 1, float32 [n, 4, R]. The true codes are
    in 0..R-1 then."""


class Predictions(ABC):
    """What a detector learns from."""

    @abstractmethod
    def matched(self, targets: Tensor) -> list[Matched]:
        """All that is judged, one for each stage of the network.

        Args:
            targets: float32 [B, M, 6], rows x1, y1, x2, y2, class id, crowd (0 or 1); a row of class -1 is padding.
        """


@dataclass(frozen=True)
class Pointing:
    """What a network says of the J named points of B pictures, to learn from: targets are `contracts.Target.POINTS`."""

    places: Tensor
    """x and y in pixels of the picture that it sees, float32 [B, J, 2]; of maps their means."""
    side: int
    """S of that picture, so that a loss can speak of shares of it."""
    maps: Tensor | None = None
    """Where it has any: how likely each point is in each cell of a grid over the picture, as logits of a softmax over
    the cells, float32 [B, J, h, w]."""
    margin: int = 0
    """Pixels by which the grid reaches beyond the picture on every side."""
