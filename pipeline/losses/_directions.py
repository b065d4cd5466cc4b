"""What losses of embeddings share: only where an embedding points counts, and arithmetic in full precision."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def straight(embeddings: Tensor) -> Tensor:
    """Embeddings float [B, E] at length 1; one of zeros stays as it is. Squares of large ones do not overflow."""
    largest = embeddings.detach().abs().amax(dim=1, keepdim=True)
    # Divided by its largest number one is 1 long or longer, unless it is of zeros, the slope of which is limited so.
    return F.normalize(embeddings / torch.where(largest > 0, largest, 1), eps=1.0)


class OfDirections(nn.Module):
    """A loss of embeddings float [B, E] and people int64 [B] that looks at directions alone."""

    def forward(self, embeddings: Tensor, people: Tensor) -> Tensor:
        """The mean of a batch, a scalar."""
        with torch.autocast(embeddings.device.type, enabled=False):  # half precision cannot tell small angles apart
            return self.cost(straight(embeddings), people)

    @abstractmethod
    def cost(self, directions: Tensor, people: Tensor) -> Tensor:
        """Likewise, of embeddings at length 1."""


class Margins(OfDirections):
    """Cross-entropy over people, each of whom has a direction that is learnt: the centre of that person's embeddings.

    An answer is the cosine of the angle to each centre, times a scale; the own one is made worse by a margin first.

    There are centres of the people with training images alone. Those of validation have none, so while it is not in
    training the loss takes the means of the batch: of each person the mean direction of the others of its images, and
    an image that is the only one of its person counts for nothing. A batch of such images costs 0.
    """

    places: Tensor

    def __init__(self, counts: Sequence[int], outputs: int, scale: float) -> None:
        """Fresh centres, of random directions.

        Args:
            counts: training images of each person, K of them.
            outputs: E.
            scale: > 0.
        """
        super().__init__()
        learnt = [person for person, count in enumerate(counts) if count]
        places = torch.full((len(counts),), -1)
        places[learnt] = torch.arange(len(learnt))
        self.register_buffer("places", places)
        self.centres = nn.Parameter(F.normalize(torch.randn(len(learnt), outputs)))
        self.scale = scale

    @abstractmethod
    def worsened(self, cosines: Tensor) -> Tensor:
        """The cosines of the angles to the own centres, float [B], with the margin."""

    def total_weight(self, people: Tensor) -> Tensor | float:
        """See `training.Weighing`."""
        return float(len(people)) if self.training else shown_again(people).sum()

    def cost(self, directions: Tensor, people: Tensor) -> Tensor:
        """See `OfDirections.cost`."""
        if self.training:
            cosines = directions @ straight(self.centres).T.to(directions.dtype)
            return self._cost(cosines, self.places[people])
        cosines, own, several = against_each_other(directions, people)
        return self._cost(cosines[several], own[several]) if several.any() else directions.sum() * 0

    def _cost(self, cosines: Tensor, own: Tensor) -> Tensor:
        true = F.one_hot(own, cosines.shape[1]).bool()
        mine = self.worsened((cosines * true).sum(dim=1))
        return F.cross_entropy(self.scale * torch.where(true, mine[:, None], cosines), own)


def against_each_other(directions: Tensor, people: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each image of a batch against the mean directions of the batch's n people, in that of its own left out.

    Args:
        directions: float [B, E] of length 1.
        people: int64 [B].

    Returns:
        Cosines float [B, n], the place of the own person among them int64 [B], and `shown_again`.
    """
    own = torch.unique(people, return_inverse=True)[1]
    members = F.one_hot(own).to(directions.dtype)
    sums = members.T @ directions
    cosines = directions @ straight(sums).T
    others = (directions * straight(sums[own] - directions)).sum(dim=1, keepdim=True)
    return torch.where(members.bool(), others, cosines), own, shown_again(people)


def shown_again(people: Tensor) -> Tensor:
    """Of people int64 [B], whether the batch has another image of the same one: bool [B]."""
    return (people[:, None] == people).sum(dim=1) > 1
