"""Networks that do not learn from what they answer, and what their losses see of them.

A detector answers with boxes, after those that overlap have been suppressed, and learns from what it thinks of every
place where an object may be. Its two halves have names here, and so has what it thinks beside what is true.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

BACKGROUND = -1
IGNORED = -2


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


def learnt_from(network: nn.Module, pictures: Tensor) -> Any:
    """What the loss takes: of most networks what they answer."""
    return network.raw(pictures) if isinstance(network, Deciding) else network(pictures)


def answered(network: nn.Module, learnt: Any) -> Tensor:
    """The answer that comes of `learnt_from`."""
    answer: Tensor = network.answer(learnt) if isinstance(network, Deciding) else learnt
    return answer


@dataclass(frozen=True)
class Costs:
    """What a detector's own paper has its errors cost."""

    classes: Literal["focal", "cross_entropy"]
    boxes: Literal["l1", "smooth_l1", "giou"]
    beta: float = 1.0
    """Of smooth L1: errors beyond it cost their size, and smaller ones less."""
    mined: float = 0.0
    """If not 0, so many of the worst background places count for each place at an object, and no other."""


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


class Predictions(ABC):
    """What a detector learns from."""

    @abstractmethod
    def matched(self, targets: Tensor) -> list[Matched]:
        """All that is judged, one for each stage of the network.

        Args:
            targets: float32 [B, M, 6], rows x1, y1, x2, y2, class id, crowd (0 or 1); a row of class -1 is padding.
        """
